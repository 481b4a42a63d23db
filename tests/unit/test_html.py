"""The report as one HTML file: whole, bounded, and not to be broken out of by what it shows."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from harness.comparators.interface import Examined, Part, Status
from harness.constants import Key, Summary
from harness.models import (
    Account,
    ArtifactDifference,
    Bisection,
    ComparisonKind,
    Component,
    Independence,
    IndependentStage,
    Isolation,
    LeftOver,
    Origin,
    Outcome,
    Policy,
    Report,
    SharedPair,
    Variation,
    Verdict,
)
from harness.reports.html import HtmlReporter
from harness.reports.page import limits
from harness.reports.page.limits import MAX_LINES, MAX_PARTS, MAX_SECTION
from harness.reports.page.parts import marked
from harness.reports.page.timings import REST, spans, typical
from harness.text import printable
from harness.verdict import judge_model
from tests.unit.samples import MODEL, agreeing, names, record, replayed, report, sha, twice

THREE = names(3)
VOID = {"meta", "input", "br"}
# What may be on the page at all. Nothing here loads, embeds or submits anything.
ELEMENTS = {
    *VOID, "html", "head", "title", "style", "body", "script", "header", "nav", "main", "section",
    "h1", "h2", "h3", "h4", "h5", "p", "span", "strong", "small", "code", "kbd", "a", "ul", "li",
    "dl", "dt", "dd", "div", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
    "button", "label", "output", "svg", "rect", "text", "del", "ins", "mark",
}  # fmt: skip
ATTRIBUTES = {
    "charset", "http-equiv", "content", "name", "lang", "id", "class", "href", "title", "type",
    "placeholder", "autocomplete", "spellcheck", "checked", "open", "scope", "role", "tabindex",
    "width", "height", "viewbox", "x", "y", "data-bad", "data-left", "data-right", "data-row",
}  # fmt: skip


class Page(HTMLParser):
    """Elements, attributes and text, as a browser takes them; every element closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.raw: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.raw[self.open[-1]] = self.raw.get(self.open[-1], "") + data
        else:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def text(self) -> str:
        return "".join(self.words)


def checked(html: str) -> Page:
    """The page, after what must hold for every page."""
    page = Page(html)
    assert {name for name, _ in page.elements} <= ELEMENTS
    for _, attributes in page.elements:
        assert all(name in ATTRIBUTES or name.startswith("aria-") for name in attributes)
        assert re.fullmatch(r"#[a-z0-9-]+", attributes.get("href") or "#x")
    assert sum(1 for name, _ in page.elements if name == "script") == 1
    assert sum(1 for name, _ in page.elements if name == "style") == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"] for name, a in page.elements if name == "a"}
    assert {(link or "").removeprefix("#") for link in links} <= set(ids)
    return page


def rendered(what: Report, **details: Any) -> Page:
    return checked(HtmlReporter().render(what, **details))


def diverging() -> Report:
    """The last of three toolchains stands alone at the object stage."""
    records = twice(*THREE)
    results = []
    for result in agreeing(records):
        side = result.comparison
        alone = (THREE[2] in side.left) != (THREE[2] in side.right)
        if side.stage == "object" and alone:
            found = ArtifactDifference("file", sha("a"), sha("b"), reason="file differs: rule no")
            result = replace(
                result, verdict=Verdict.UNEXPLAINED, differences=(found,), reason=found.reason
            )
        results.append(result)
    return report(records, results, [replayed(records[0])])


def timed(what: Report) -> Report:
    """Each build wrote its stages one second after the other."""
    builds = tuple(
        replace(
            build,
            stage_ends={stage: float(at) for at, stage in enumerate(build.stages, 1)},
            wall_seconds=len(build.stages) + 0.5,
        )
        for build in what.builds
    )
    return replace(what, builds=builds)


def key(what: Report) -> str:
    result = next(r for r in what.comparisons if r.differences)
    side = result.comparison
    return f"{side.left}|{side.right}|{side.stage}|{result.differences[0].name}"


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_comes_first_and_in_words(verdict: Verdict) -> None:
    records = twice(*THREE)
    page = rendered(report(records, agreeing(records, verdict)))
    text = page.text
    assert text.index(verdict.value) < text.index("Models and stages")
    ids = [attributes["id"] for name, attributes in page.elements if name == "section"]
    assert ids == [
        "matrix", "findings", "replays", "accounting", "independence", "timings", "constants",
        "builds", "artifacts", "toolchains", "policy", "notes", "explained",
    ]  # fmt: skip
    stop = verdict in (Verdict.NONDETERMINISTIC, Verdict.UNEXPLAINED)
    assert ("do not release" in text) == stop


def test_a_run_that_is_not_complete_is_no_pass() -> None:
    records = twice(*THREE)
    text = rendered(report(records, agreeing(records), complete=False)).text
    assert text.index("INCONCLUSIVE") < text.index("The run is not complete") < text.index("Search")
    empty = rendered(report([], [], verdicts=())).text
    assert "INCONCLUSIVE" in empty
    assert "not a pass" in empty


def test_weak_isolation_is_said_at_the_top_and_at_each_build() -> None:
    records = [
        replace(r, isolation=Isolation.NONE, not_applied={"host-name": "no"}) for r in twice(*THREE)
    ]
    what = replace(report(records, agreeing(records)), isolation=Isolation.NONE)
    text = rendered(what).text
    assert text.index("isolation: none. ") < text.index("Search")
    assert "variations that could not be applied: host-name" in text
    assert text.count("isolation: none ") >= len(records)
    some = [replace(r, isolation=Isolation.NAMESPACES) for r in records[1:]]
    text = rendered(report([records[0], *some], agreeing(records))).text
    assert "isolation: none. So it was for 1 build of 6" in text


def test_the_policy_allows_the_two_inlined_files_and_nothing_else() -> None:
    page = rendered(diverging())
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv")) or ""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{digest(page.raw['script'])}'",
        f"style-src 'sha256-{digest(page.raw['style'])}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert not re.search(r"url\(|@import|https?:", page.raw["style"] + page.raw["script"])
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", page.raw["script"])


def test_a_finding_says_what_was_seen_what_was_excluded_and_what_to_do() -> None:
    text = rendered(diverging()).text
    assert f"first divergence: object; odd one out: {THREE[2]}" in text
    for words in (
        "What was compared", "version: 3 comparisons of 3 artifacts: 1 IDENTICAL, 2 UNEXPLAINED",
        "Evidence", sha("a"), sha("b"), "file differs: rule no",
        "Likely benign causes", "a toolchain disagrees with itselfnot seen",
        "it follows from an earlier stageexcluded", "What would change my mind",
        f"harness diff 20260101-000000-1-abcd m object {THREE[0]} {THREE[2]}",
    ):  # fmt: skip
        assert words in text, words


def test_what_was_not_tested_is_not_called_excluded() -> None:
    records = [record(name) for name in THREE]
    text = rendered(report(records, agreeing(records, Verdict.UNEXPLAINED))).text
    assert "a toolchain disagrees with itselfnot checked" in text
    assert "and the like around a buildnot checked" in text
    assert "the step that makes this stage adds itnot checked" in text


def test_a_variation_that_was_not_applied_everywhere_is_named() -> None:
    records = twice(*THREE)
    records[3] = replace(records[3], not_applied={"clock": "no library"})
    results = [
        replace(r, verdict=Verdict.UNEXPLAINED) if r.comparison.kind.value == "version" else r
        for r in agreeing(records)
    ]
    text = rendered(report(records, results)).text
    assert "not seen, in part" in text
    assert "not varied: clock" in text


def test_missing_builds_are_said_with_the_command_that_builds_them() -> None:
    records = [*twice(*THREE[:2]), record(THREE[2], outcome=Outcome.FAILED, detail="words")]
    text = rendered(report(records, agreeing(records))).text
    assert "the model as a whole" in text
    assert f"harness run /m.onnx --input x=1x8 --toolchain {THREE[2]} --engine sandbox" in text
    assert "FAILED" in text
    assert "1 build failed" in text


def test_the_command_that_reproduces_a_varied_build_has_its_seed() -> None:
    text = rendered(diverging()).text
    assert f"--toolchain {THREE[0]} --engine sandbox --repeat 2 --variation-seed 1" in text


def test_a_command_that_cannot_be_shown_as_it_is_is_not_offered() -> None:
    model = replace(MODEL, path="/m\u202e.onnx")
    html = HtmlReporter().render(replace(diverging(), models=(model,)))
    assert "/m\\u202e.onnx" in html
    assert "not as it is: see report.json" in html
    assert 'class="command"><code>harness run' not in html


def test_bisection_is_shown_with_its_finding() -> None:
    found = Bisection("m", THREE[0], "object", ("umask",), 7, "differs when umask vary")
    text = rendered(replace(diverging(), bisections=(found,))).text
    assert "umask. differs when umask vary (7 builds to find out)" in text


def test_differing_parts_are_shown_line_by_line() -> None:
    what = diverging()
    part = Part(
        "function", "main", Status.CHANGED, 10, 12,
        ("@@ 1 @@", " same", "-call @a(1)", "+call @b(1)", "+more"), note="one call changed",
    )  # fmt: skip
    gone = Part("function", "old", Status.RENAMED, new_name="new")
    looked = Examined("LLVM IR", (part, gone), same=7, truncated=True, notes=("debug not read",))
    html = HtmlReporter().render(what, {key(what): looked})
    page = checked(html)
    for words in (
        "Read as LLVM IR", "2 differing parts, 7 the same", "There may be more",
        "one call changed", "debug not read", "10 bytes → 12 bytes", "old → new",
    ):  # fmt: skip
        assert words in page.text, words
    assert "<del>-call @<mark>a</mark>(1)</del><ins>+call @<mark>b</mark>(1)</ins>" in html
    assert "<ins>+more</ins>" in html


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("-ab", "+ab", ("-ab", "+ab")),
        ("-", "+", ("-", "+")),
        ("-aa", "+aaa", ("-aa", "+aa<mark>a</mark>")),
        ("-<x>", "+<y>", ("-&lt;<mark>x</mark>&gt;", "+&lt;<mark>y</mark>&gt;")),
        ("-", "+new", ("-", "+<mark>new</mark>")),
    ],
)
def test_the_mark_is_around_what_differs(old: str, new: str, parts: tuple[str, str]) -> None:
    assert marked(old, new) == parts


def test_times_per_stage_are_a_chart_and_a_table() -> None:
    what = timed(diverging())
    slow = replace(what.builds[0], stage_ends={"object": 4.0, "graph": 9.0}, wall_seconds=9.0)
    what = replace(what, builds=(slow, *what.builds[1:]))
    page = rendered(what)
    text = page.text[page.text.index("Time per stage") :]
    assert "seconds per stage, medians of 6 builds by 3 toolchains" in text
    # Of the first toolchain, graph took 5 s in one build (after the object) and 1 s in the other.
    assert text.index("object 2.50 s 1.00 s 1.00 s") < text.index("graph 3.00 s 1.00 s 1.00 s")
    assert "after the last stage 0.25 s 0.50 s 0.50 s" in text
    assert "stages written" in text
    widths = [a["width"] for name, a in page.elements if name == "svg" and "x" in a]
    assert sum(float((width or "").rstrip("%")) for width in widths[:3]) == pytest.approx(100, 0.01)


def test_a_run_without_times_says_so() -> None:
    text = rendered(diverging()).text
    assert "No build of this run recorded when its stages were written." in text
    assert "No build of this run left a stage named constants." in text


def test_spans_follow_the_order_in_which_files_were_written() -> None:
    build = replace(record(), stage_ends={"graph": 1.0, "object": 0.25}, wall_seconds=0.5)
    assert spans(build) == {"object": 0.25, "graph": 0.75, REST: 0.0}
    assert typical([]) == {}


def accounted(words: str = "") -> Report:
    """The first toolchain has something left over, the second could not be read, the third is
    wholly asked for."""
    extra = LeftOver("object", f"function f{words}", f"a compare{words}", ("x", f"f{words}", "y"))
    accounts = [
        Account("decisions", "m", f"m/{name}/control", name, "object", 10, 10 - number)
        for number, name in enumerate(THREE)
    ]
    accounts[0] = replace(accounts[0], left_over=(extra,))
    accounts[1] = replace(accounts[1], unknown=(f"no reader for this{words}",))
    records = twice(*THREE)
    comparisons = agreeing(records)
    verdict = judge_model(MODEL, [r.id for r in records], records, comparisons, [], Policy(),
                          accounts=accounts)  # fmt: skip
    return replace(report(records, comparisons, verdicts=(verdict,)), accounts=tuple(accounts))


@pytest.mark.parametrize("words", ["", "<script>alert(1)</script>\u202e"])
def test_what_the_model_does_not_ask_for_is_a_finding_with_its_path(words: str) -> None:
    said = printable(words, 100)
    text = rendered(accounted(words)).text
    assert text.index("UNACCOUNTED") < text.index("Models and stages")
    assert "left over: decisions" in text
    finding = text[text.index("Findings (1)") : text.index("Replays")]
    assert "accounting of decisions: UNACCOUNTED" in finding
    assert f"function f{said}: a compare{said} path: x → f{said} → y" in finding
    assert "what is left over was only not understoodnot seen" in finding
    assert f"--toolchain {THREE[0]} --engine sandbox --repeat 1" in finding
    assert "--keep" in finding
    section = text[text.index("Accounting (3)") :]
    assert "1 of 3 wholly asked for, 3 distinct" in section
    assert f"could not be read:no reader for this{said}" in section
    assert "8 of 10" in section


def with_constants() -> tuple[Report, dict[Key, Summary]]:
    """Two toolchains agree in one constant, not in the other; one has a third."""
    one, two = THREE[:2]
    files = {"constants/0.bin": b"same", "constants/1.bin": b"mine", "constants/index.json": b"[]"}
    other = {**files, "constants/1.bin": b"theirs!", "constants/2.bin": b"mine"}
    builds = [record(one, artifacts=files), record(two, artifacts=other)]
    known = Summary("float32 2x600", 1200, 1000, ("0.5", "1"), "-1", "1", "0.25", 100, 3, (1, 0, 7))
    return report(builds, agreeing(builds)), {("m", "0.bin", sha(b"same")): known}


def test_constants_say_who_disagrees() -> None:
    what, known = with_constants()
    page = rendered(what, constants=known)
    text = page.text[page.text.index("The raw bytes of each tensor") :]
    text = text[: text.index("Builds (")]
    assert "3 constants, 15 bytes, 2 not the same in all builds" in text
    assert text.index("1.bin") < text.index("2.bin") < text.index("0.bin")
    assert f"version 1 of 2: {THREE[0]}; the same bytes are also 2.bin" in text
    assert f"version 2 of 2: {THREE[1]}" in text
    assert f"not in all builds: {THREE[1]}" in text
    numbers = "-1 … 1, mean 0.25, 10% zero, 3 not finite, of the first 1,000 of 1,200"
    assert "float32 2x600" in text
    assert numbers in text
    assert "all 2 builds" in text
    bars = [a["height"] for name, a in page.elements if name == "rect" and a.get("y")]
    assert bars == ["2.9", "20.0"]
    spoilt = {place: spoiled(summary, "<b>") for place, summary in known.items()}
    assert "<b>" in rendered(what, constants=spoilt).text


def test_many_constants_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONSTANTS", 2)
    what, known = with_constants()
    assert "… and 1 more, smaller: see the artifacts below" in rendered(what, constants=known).text


def independence() -> Independence:
    """Two toolchains of one publisher."""
    parts = tuple(
        Component(name, 3, 1 << 20, sha(name), (), ("GCC 1",), ("22.1",))
        for name in ("frontend", "compiler", "llvm", "linker")
    )
    origins = tuple(
        Origin(name, "tvm", "p", "1", "x86_64", "b", "3", sha("driver"), None, True, "", parts)
        for name in THREE[:2]
    )
    shares = {part.name: 1.0 for part in parts}
    pair = SharedPair(THREE[0], THREE[1], ("publisher",), ("GCC 1",), 0.9999, shares, ("llvm",))
    stage = IndependentStage("m", "object", ("llvm",), tuple(THREE[:2]), (THREE[0],))
    return Independence(0.5, origins, (pair,), (stage,))


def test_an_explained_difference_is_shown_where_it_was_looked_into() -> None:
    what = diverging()
    found = ArtifactDifference("file", sha("a"), sha("b"), ("rule",), sha("n"), 40)
    results = [
        replace(r, verdict=Verdict.EXPLAINED, differences=(found,)) if r.differences else r
        for r in what.comparisons
    ]
    what = report(list(what.builds), results)
    part = Part("metadata", "!7", Status.CHANGED, lines=("-!7 = 1", "+!7 = 2"))
    text = rendered(what, details={key(what): Examined("LLVM IR", (part,))}).text
    assert "EXPLAINED" in text[:400]
    assert text.index("bytes set aside") < text.index("1 differing part, 0 the same")
    assert "+!7 = 2" in text


def test_independence_in_the_words_of_the_terminal() -> None:
    found = independence()
    text = rendered(replace(diverging(), independence=found)).text
    assert "Agreement between builds that share a component proves nothing" in text
    assert "object 1" in text
    assert "99.9%" in text  # 100 % is said only where it is exact
    assert "100% *" in text


# hostile text

FAKE = "IDENTICAL every comparison and every replay came out byte for byte"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "</title></head><body onload=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "\"><a href='javascript:alert(1)' onclick='alert(1)'>x</a>",
    "' onfocus='alert(1)' autofocus tabindex=1 x='",
    "` onmouseover=alert(1) `",
    "<!-- <![CDATA[ ]]> --!> <?php ?>",
    "<base href=//evil.example><meta http-equiv=refresh content=0;url=//evil.example>",
    "<svg><script>alert(1)</script></svg><math><mtext></form><form>",
    "&lt;script&gt;&#60;&#x3c;&amp;",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    f"\u202e{FAKE}\u2066\u2069",
    "\x00\x08\ufeff\u200b\U000e0041\ud800",
    f"x\r\n{FAKE}",
    "e" + "\u0301" * 100,
]
LOUD = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800]"
)


def spoiled(value: Any, words: str) -> Any:
    """A copy with ``words`` added to every string that others decide."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = {
            "id", "left", "right", "model", "toolchain", "stage", "build", "run", "name",
            "first_divergence", "odd_ones_out",
        }  # fmt: skip
        changes = {
            f.name: spoiled(getattr(value, f.name), words)
            for f in fields(value)
            if f.name not in kept
        }
        return replace(value, **changes)
    if type(value) is str:
        return value if re.fullmatch(r"([0-9a-f]{64})?", value) else value + words
    if isinstance(value, tuple):
        return tuple(spoiled(inner, words) for inner in value)
    if isinstance(value, dict):
        kinds = set(ComparisonKind)
        return {k if k in kinds else k + words: spoiled(v, words) for k, v in value.items()}
    return value


def renamed(what: Report, words: str) -> Report:
    """Every name changed alike, so that what refers to it still does."""

    names = {
        "model", "stage", "toolchain", "name", "stages", "run", "id", "left", "right", "build",
        "odd_ones_out", "first_divergence", "replayer",
    }  # fmt: skip

    def change(value: Any, inside: str = "") -> Any:
        if isinstance(value, Variation):
            return value
        if is_dataclass(value) and not isinstance(value, type):
            return replace(
                value, **{f.name: change(getattr(value, f.name), f.name) for f in fields(value)}
            )
        if isinstance(value, tuple):
            return tuple(change(inner, inside) for inner in value)
        if isinstance(value, dict):
            return {change(k, inside): change(v, "") for k, v in value.items()}
        if type(value) is str and inside in names:
            return value + words
        return value

    changed: Report = change(what)
    return changed


CHANGES: list[Callable[[Report, str], Report]] = [spoiled, renamed]


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.slow
def test_hostile_text_is_text(change: Callable[[Report, str], Report], words: str) -> None:
    what = replace(diverging(), notes=("note",), host={"cpu": "x"})
    bisection = Bisection("m", THREE[0], "object", ("umask",), 7, "detail")
    failed = record("tvm/9-p-x86_64", outcome=Outcome.FAILED, detail="words")
    what = replace(what, bisections=(bisection,), builds=(*timed(what).builds, failed))
    part = Part("kind", "name", Status.CHANGED, 1, 2, ("-a", "+b", "@x", " c"), "new", "note")
    looked = Examined("format", (part,), notes=("note",))
    plain = rendered(what, details={key(what): looked})
    hostile = change(what, words)
    html = HtmlReporter().render(hostile, {key(hostile): spoiled(looked, words)})
    page = checked(html)
    assert page.raw == plain.raw
    if printable(words, 1000) == words:
        # The same elements as of the harmless report: nothing of it became markup. (A command
        # that cannot be shown as it is looks different on purpose.)
        assert [name for name, _ in page.elements] == [name for name, _ in plain.elements]
        for (_, mine), (_, theirs) in zip(page.elements, plain.elements, strict=True):
            assert mine.keys() == theirs.keys()
    assert not LOUD.search(html.replace("\n", ""))
    html.encode("utf-8")


def test_what_is_written_there_can_be_read() -> None:
    text = rendered(replace(diverging(), notes=("\x1b[31m<b>\u202e",))).text
    assert "\\x1b[31m<b>\\u202e" in text


# size


def digests(value: Any) -> set[str]:
    if is_dataclass(value):
        return {d for f in fields(value) for d in digests(getattr(value, f.name))}
    if isinstance(value, tuple):
        return {d for inner in value for d in digests(inner)}
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return {value}
    return set()


def test_every_digest_is_there_whole() -> None:
    what = diverging()
    explained = ArtifactDifference("x", sha("l"), sha("r"), ("rule",), sha("n"), 40)
    first = replace(what.comparisons[0], verdict=Verdict.EXPLAINED, differences=(explained,))
    failed = replace(
        what.replays[0],
        verdict=Verdict.UNEXPLAINED,
        got_sha256=sha("other"),
        opened=sha("opened"),
    )
    model = replace(MODEL, external=(("weights.bin", sha("weights")),))
    what = replace(
        what, comparisons=(first, *what.comparisons[1:]), replays=(failed,), models=(model,)
    )
    builds = [replace(build, opened=sha(build.id)) for build in what.builds]
    what = replace(what, builds=tuple(builds), independence=independence())
    page = rendered(what)
    assert len(digests(what)) > 10
    words = set("\n".join(page.words).splitlines())
    assert digests(what) <= words
    assert "rule40" in page.text  # bytes set aside, by rule


def test_a_large_report_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROWS", 1000)
    files = {f"object/f{n}": str(n).encode() for n in range(1500)}
    records = [record(THREE[0], artifacts=files)]
    html = HtmlReporter().render(report(records, []))
    assert "500 more digests in report.json" in html
    monkeypatch.setattr(limits, "MAX_ROWS", 20_000)
    reasons = tuple(f"{n} " + "<" * 5000 for n in range(5000))
    what = report(records[:1], [])
    verdict = replace(what.verdicts[0], reasons=reasons)
    html = HtmlReporter().render(replace(what, verdicts=(verdict,), builds=()))
    assert "and 4,900 more reasons in report.json" in html
    assert len(html) < 2 * MAX_SECTION


def test_what_was_looked_into_is_bounded() -> None:
    what = diverging()
    lines = tuple("+" + "<" * 10_000 for _ in range(MAX_LINES + 5))
    parts = tuple(Part("f", f"n{n}", Status.ADDED, lines=lines) for n in range(MAX_PARTS + 7))
    html = HtmlReporter().render(what, {key(what): Examined("data", parts)})
    checked(html)
    assert "and 5 more lines" in html
    assert "parts in report.json, for which this page has no room" in html
    assert sha("a") in html
    assert len(html) < MAX_SECTION


def test_the_same_report_gives_the_same_page() -> None:
    assert HtmlReporter().render(diverging()) == HtmlReporter().render(diverging())
