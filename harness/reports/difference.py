"""`harness diff` as one HTML file, in the look of the report: what differs, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from harness.comparators.examine import HERE, equal
from harness.comparators.interface import Examined
from harness.reports.page import limits
from harness.reports.page.document import document
from harness.reports.page.markup import (
    Safe,
    bullets,
    command_line,
    counted,
    definitions,
    fold,
    prose,
    row,
    section,
    table,
    tag,
)
from harness.reports.page.parts import examined_parts, line_box
from harness.reports.page.room import Room, capped
from harness.reports.page.top import toolbar

Answer = tuple[str, Examined]  # name of a file or artifact, what looking into both sides gave
Lines = tuple[str, Sequence[str]]  # a heading, lines as those of a part


def difference_page(
    left: str,
    right: str,
    found: Mapping[str, Examined],
    same: bool,
    command: Sequence[str],
    rules: Sequence[str] = (),
    more: Sequence[Lines] = (),
    of: str = "",
) -> str:
    """The page. ``same``: what the exit code says. ``command``: what shows this again.

    ``rules``: what was set aside before, a line for each file. ``more``: what another tool said
    about the same two sides, shown below. ``of``: what the two sides are sides of.
    """
    result = "different" if not same else "same, after rules" if rules else "same"
    differing = [(_named(name), known) for name, known in found.items() if not equal(known)]
    equals = [name for name, known in found.items() if equal(known) and name != HERE]
    return document(
        f"{result}: {left} and {right}",
        _top(left, right, found, same, command, rules, of),
        toolbar("function, section, file …", attention=False),
        tag("main", *_main(left, right, differing, equals, rules, more)),
    )


def _top(
    left: str,
    right: str,
    found: Mapping[str, Examined],
    same: bool,
    command: Sequence[str],
    rules: Sequence[str],
    of: str,
) -> Safe:
    sign, word, looks = ("=", "SAME", "identical") if same else ("≠", "DIFFERENT", "unexplained")
    words = "No difference." if same else _in_words(found)
    if same and rules:
        sign, word, looks = "≈", "SAME AFTER RULES", "explained"
        words = "The bytes differ. Nothing is left of it after the rules that are named below."
    elif rules:
        words += " This is what is left after the rules that are named below."
    if any(examined.truncated for examined in found.values()):
        words += " There may be more: a limit was reached."
    badge = tag("span", tag("span", sign, aria_hidden="true"), f" {word}", class_=f"v v-{looks}")
    facts = [("of", of)] if of else []
    facts += [("left", tag("code", left)), ("right", tag("code", right))]
    return tag(
        "header",
        tag("p", "ML compiler harness, difference", class_="quiet"),
        tag("h1", badge),
        tag("p", words, class_="meaning"),
        definitions(facts),
        tag("p", "See it again: ", command_line(command)),
        class_=f"top top-{looks}",
        id="verdict",
    )


def _in_words(found: Mapping[str, Examined]) -> str:
    files = [known for name, known in found.items() if name != HERE]
    differing = [known for known in files if not equal(known)]
    whole = found.get(HERE)
    if len(files) == 1 and whole is None:
        return f"{counted(len(files[0].parts), 'part')} not the same, {files[0].same:,} the same."
    words = [f"{counted(len(differing), 'file')} with other contents"]
    if whole is None:
        words.append(f"{len(files) - len(differing):,} the same")
    else:
        others = counted(len(whole.parts), "entry", "entries")
        words += [f"{others} on one side only, renamed or of another kind"] if whole.parts else []
        words.append(f"{whole.same:,} the same")
    return f"{'; '.join(words)}."


def _named(name: str) -> str:
    return "the folders themselves" if name == HERE else name


def _main(
    left: str,
    right: str,
    differing: Sequence[Answer],
    equals: Sequence[str],
    rules: Sequence[str],
    more: Sequence[Lines],
) -> Iterator[Safe]:
    yield _overview(differing, equals)
    if rules:
        yield section("rules", "Set aside by rules of the ledger", bullets(map(prose, rules[:100])))
    if differing:
        first = next((name for name, examined in differing if _to_read(examined)), None)
        places = {name: f"file-{number}" for number, (name, _) in enumerate(differing, 1)}
        several = len(differing) > 1

        def show(answer: Answer) -> Safe:
            name, examined = answer
            opened = name == first
            inner = examined_parts(examined, left, right, opened, found=True)
            if not several:
                return tag("div", inner, id=places[name])
            heading = [tag("h3", tag("code", name))]
            return fold(heading, inner, open_=opened, id=places[name], class_="finding")

        shown, missing = capped(differing, limits.MAX_ROWS, Room(), show, "files")
        yield section("differences", "What differs", *shown, missing)
    if more:
        boxes = [
            fold(
                [tag("h3", heading)],
                line_box(lines, left, right, limits.MAX_TOOL_LINES),
                open_=number == 0,
                class_="part f",
            )
            for number, (heading, lines) in enumerate(more[: limits.MAX_FILES])
        ]
        yield section("more", "What another tool says", *boxes)


def _overview(differing: Sequence[Answer], equals: Sequence[str]) -> Safe:
    counts = Counter(
        (part.kind, part.status.value) for _, examined in differing for part in examined.parts
    )
    kinds = [
        row(kind, status, f"{count:,}", found=False)
        for (kind, status), count in counts.most_common(100)
    ]
    blocks = [table(["kind of part", "is", "how often"], kinds, "parts by kind")] if kinds else []
    if len(differing) > 1:
        rows = [
            row(
                name,
                tag("a", examined.format, href=f"#file-{number}"),
                f"{len(examined.parts):,}{' or more' if examined.truncated else ''}",
                f"{examined.same:,}",
                found=False,
            )
            for number, (name, examined) in enumerate(differing[: limits.MAX_FILES], 1)
        ]
        head = ["file", "read as", "parts that differ", "parts that are the same"]
        blocks.append(table(head, rows, "files that differ"))
    if equals:
        names = bullets(tag("code", name) for name in equals[: limits.MAX_FILES])
        blocks.append(fold([f"no difference left: {counted(len(equals), 'file')}"], names))
    left_out = max(len(differing) - limits.MAX_FILES, 0) + max(len(equals) - limits.MAX_FILES, 0)
    if left_out:
        words = f"… and {left_out:,} more, for which this page has no room: see --json"
        blocks.append(tag("p", words, class_="cut"))
    return section("overview", "Overview", *blocks)


def _to_read(examined: Examined) -> bool:
    return any(part.lines for part in examined.parts)
