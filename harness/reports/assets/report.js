// Search, copy, folding, side by side. The page reads without it; it makes no markup from text.
"use strict";

const search = document.getElementById("search");
const onlyBad = document.getElementById("bad");
const wide = document.getElementById("wide");
const count = document.getElementById("count");
const said = document.getElementById("said");

// Search and filter. What is searched is collected at the first use, not when the page opens.

let items = null;
const openedBySearch = new Set();

function collect() {
  items = Array.from(document.querySelectorAll(".f"), (element) => ({
    element,
    text: element.textContent.toLowerCase(),
    bad: element.hasAttribute("data-bad"),
  }));
}

function filter() {
  if (items === null) collect();
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const some = words.length > 0;
  const only = onlyBad !== null && onlyBad.checked;
  for (const details of openedBySearch) details.open = false;
  openedBySearch.clear();
  let shown = 0;
  for (const item of items) {
    const fits = words.every((word) => item.text.includes(word)) && (item.bad || !only);
    item.element.hidden = !fits;
    if (fits) shown += 1;
    if (fits && (some || only)) openAbove(item.element, openedBySearch);
  }
  count.textContent = some || only ? `${shown} of ${items.length} shown` : "";
}

function openAbove(element, opened) {
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (at.tagName === "DETAILS" && !at.open) {
      at.open = true;
      if (opened) opened.add(at);
    }
  }
}

let waiting = 0;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 120);
});
if (onlyBad) onlyBad.addEventListener("change", filter);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && event.target !== search) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "Escape" && event.target === search) {
    search.value = "";
    filter();
    search.blur();
  }
});

// Copy: the text beside the button.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const source = button.parentElement.querySelector("code");
  let done = true;
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Without a clipboard to write to, the selection can still be copied.
    getSelection().selectAllChildren(source);
    done = document.execCommand("copy");
  }
  said.textContent = done ? "copied" : "selected; copy it with your keyboard";
  button.textContent = done ? "copied" : "selected";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});

// Links into folded parts, and all of them at once.

function go() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  openAbove(target, null);
  if (target.tagName === "DETAILS") target.open = true;
  target.hidden = false;
  target.scrollIntoView();
  const summary = target.querySelector(":scope > summary");
  if (summary) summary.focus({ preventScroll: true });
}
addEventListener("hashchange", go);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) go(); // the same place again, which changes no hash
});

function setAll(open) {
  for (const details of document.querySelectorAll("details")) details.open = open;
  openedBySearch.clear();
}
document.getElementById("open-all").addEventListener("click", () => setAll(true));
document.getElementById("close-all").addEventListener("click", () => setAll(false));

let folded = [];
addEventListener("beforeprint", () => {
  folded = Array.from(document.querySelectorAll("details:not([open])"));
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
  folded = [];
});

// Side by side: two columns made of the lines that are there, when they are first looked at.

function split(diff) {
  if (diff.previousElementSibling?.className === "columns") return;
  const columns = document.createElement("div");
  columns.className = "columns";
  const sides = ["left", "right"].map((side) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = `${side}: ${diff.dataset[side]}`;
    const box = document.createElement("div");
    box.className = "diff";
    box.tabIndex = 0;
    figure.append(caption, box);
    columns.append(figure);
    return box;
  });
  const fill = () => {
    while (sides[0].children.length < sides[1].children.length) sides[0].append(blank());
    while (sides[1].children.length < sides[0].children.length) sides[1].append(blank());
  };
  let last = "";
  let start = 0; // the row with which a run of changes begins
  // A line goes into its row of the run, where it has one.
  const place = (column, line) => {
    const row = start + Number(line.dataset.row || 0);
    while (column.children.length < row) column.append(blank());
    column.append(line.cloneNode(true));
  };
  for (const line of diff.children) {
    const kind = line.tagName;
    // A new run of changes begins where an old line follows a new one, or where both agree.
    if (kind === "SPAN" || (kind === "DEL" && last === "INS") || last === "SPAN") {
      fill();
      start = sides[0].children.length;
    }
    if (kind !== "INS") place(sides[0], line);
    if (kind !== "DEL") place(sides[1], line);
    last = kind;
  }
  fill();
  // Both share the rows of one grid, so that a line which wraps keeps beside its other side.
  for (const side of sides) side.parentElement.style.gridRow = `1 / span ${side.children.length + 1}`;
  diff.before(columns);
}

function blank() {
  const line = document.createElement("span");
  line.className = "at";
  return line;
}

function splitOpen() {
  document.body.classList.toggle("split", wide.checked);
  if (!wide.checked) return;
  for (const diff of document.querySelectorAll("details[open] > .diff")) split(diff);
}
wide.addEventListener("change", splitOpen);
document.addEventListener("toggle", (event) => {
  if (!wide.checked || !event.target.open) return;
  for (const diff of event.target.querySelectorAll(":scope > .diff")) split(diff);
}, true);
wide.checked = wide.checked && matchMedia("(min-width: 60rem)").matches;
splitOpen();
if (location.hash) go();
