"""Which claims meet, and whether one history of a model has all steps that a policy lists. Pure.

Claims are taken apart into nodes: ways in which files came to be. A claim that makes files is one
node. One that passes on files (a model signing) is a node for each file that somebody wants of it:
the file came from whoever made that file, or the folder as a whole.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from harness.signoff.claims import MAX_NAME, Claim
from harness.text import printable

MOST_SHOWN = 20  # claims about one file


@dataclass
class _Node:
    """What went in: for each set, one of its nodes is needed; an empty one is a gap."""

    claim: int
    needs: list[frozenset[int]] = field(default_factory=list)
    passes: str = ""  # the digest of the file that is only passed on


class History:
    """All claims about a model with its external data (path → sha256). ``steps``: the policy's.

    ``met``: numbers of the claims from which the model came. ``needed``: of those, the ones that
    may have no gap, which are all down to the first step of the list.
    """

    def __init__(
        self,
        claims: Sequence[Claim],
        model: str,
        external: Mapping[str, str],
        steps: tuple[str, ...],
    ) -> None:
        self.claims = claims
        self.steps = steps
        self.label = [_label(one, steps) for one in claims]
        # (path of external data, empty for the model itself; sha256) of all that is compiled.
        self.wanted = [("", model), *sorted(external.items())]
        self._nodes: list[_Node] = []
        self._makers: dict[str, set[int]] = {}
        self._build()
        self._top = [self._made(name, digest) for name, digest in self.wanted]
        self.met = self._below(stop=False)
        self.needed = self._below(stop=True)

    def complete(self) -> bool:
        """Whether one history has all steps, each made of earlier ones without a gap.

        The least solution: what a cycle makes of itself is not made. For each node, the sets of
        steps (as bits) that can occur in a history of what it makes.
        """
        ways: list[set[int]] = [set() for _ in self._nodes]
        users: list[list[int]] = [[] for _ in self._nodes]
        for number, node in enumerate(self._nodes):
            for maker in frozenset().union(*node.needs):
                users[maker].append(number)
        queue = deque(range(len(self._nodes)))
        queued = set(queue)
        while queue:
            number = queue.popleft()
            queued.discard(number)
            node = self._nodes[number]
            label = self.label[node.claim]
            own = 1 << label if label >= 0 else 0
            found = {mask | own for mask in _together(node.needs, ways, label)}
            if label == 0:  # what went into the first step may come from nowhere
                found.add(1)
            found = _largest(found)
            if found != ways[number]:
                ways[number] = found
                new = [user for user in users[number] if user not in queued]
                queue.extend(new)
                queued.update(new)
        return (1 << len(self.steps)) - 1 in _together(self._top, ways, -1)

    def model_gaps(self) -> list[str]:
        """What of the model itself no statement has made."""
        lines = []
        for (name, digest), makers in zip(self.wanted, self._top, strict=True):
            if not makers and not name:
                lines.append(f"the model's digest is a product of no statement: sha256 {digest}")
            elif not makers:
                other = " under this name" if self._makers.get(digest) else ""
                lines.append(
                    f"the model's external data {printable(name, MAX_NAME)} is a product of no "
                    f"statement{other}: sha256 {digest}"
                )
        return lines

    def gaps(self, among: Iterable[int]) -> list[str]:
        """What went into these claims and came out of none, or is not said at all."""
        lines = []
        for number in sorted(among):
            one = self.claims[number]
            if one.unsaid:
                lines.append(f"{one.where}: {one.unsaid}")
            for thing in one.takes:
                name = printable(thing.name, MAX_NAME)
                if not thing.sha256 and not one.passes:
                    lines.append(f"{one.where}: no sha256 is given of {name}, which went in")
                elif self._lacks(number, thing.sha256):
                    lines.append(
                        f"no statement says where {name} of {one.where} comes from: "
                        f"sha256 {thing.sha256}"
                    )
        return lines

    def rivals(self) -> list[str]:
        """Files of the history of which several statements say how they were made."""
        lines = []
        wanted = {digest for _, digest in self.wanted}
        wanted.update(thing.sha256 for number in self.met for thing in self.claims[number].takes)
        for digest in sorted(wanted - {""}):
            made = {self.claims[n].signed.digest: n for n in self.makers(digest)
                    if not self.claims[n].passes}  # fmt: skip
            if len(made) > 1:
                who = "; ".join(self.claims[n].where for n in sorted(made.values())[:MOST_SHOWN])
                lines.append(f"{len(made)} statements say what made sha256 {digest}: {who}")
        return lines

    def makers(self, digest: str) -> list[int]:
        """The claims that made, or passed on, a file."""
        return sorted({self._nodes[number].claim for number in self._makers.get(digest, ())})

    def used(self, number: int) -> set[str]:
        """Digests of what others took of a claim, or of the model itself."""
        if self.claims[number].passes:
            return {node.passes for node in self._nodes if node.claim == number}
        found = {digest for _, digest in self.wanted}
        for other in self.met - {number}:
            one = self.claims[other]
            found.update(thing.sha256 for thing in one.takes)
            found.add(one.whole)
        return found - {""}

    def ordered(self) -> list[int]:
        """The claims that met, each after all that went into it; in a cycle, by number."""
        graph = {
            number: frozenset().union(*node.needs)
            for number, node in enumerate(self._nodes)
            if node.claim in self.met
        }
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError:
            order = sorted(graph)
        last = {self._nodes[number].claim: place for place, number in enumerate(order)}
        return sorted(self.met, key=lambda number: (last.get(number, -1), number))

    def cycle(self) -> list[int]:
        """Claims whose products went into themselves: one such circle, or nothing."""
        graph = {number: frozenset().union(*node.needs) for number, node in enumerate(self._nodes)}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            return sorted({self._nodes[number].claim for number in error.args[1]})
        return []

    def _build(self) -> None:
        wanted = {digest for _, digest in self.wanted}
        folders = [number for number, one in enumerate(self.claims) if one.passes]
        for one in self.claims:
            if not one.passes:
                wanted.update(thing.sha256 for thing in one.takes)
        before = -1
        while len(wanted) > before:  # a folder that is wanted as a whole wants its files
            before = len(wanted)
            for number in folders:
                if self.claims[number].whole in wanted - {""}:
                    wanted.update(thing.sha256 for thing in self.claims[number].takes)
        wanted.discard("")
        sources: list[tuple[int, list[str]]] = []  # node → the digests that it needs
        for number, one in enumerate(self.claims):
            taken = [thing.sha256 for thing in one.takes]
            if not one.passes:
                node = self._node(number, {thing.sha256 for thing in one.makes})
                sources.append((node, [*taken, ""] if one.unsaid else taken))
                continue
            for digest in sorted(wanted.intersection(taken)):
                sources.append((self._node(number, {digest}, digest), [digest]))
                if one.whole:
                    sources.append((self._node(number, {digest}, digest), [one.whole]))
            if one.whole and one.whole in wanted:
                sources.append((self._node(number, {one.whole}), taken))
        for place, digests in sources:
            own = self._nodes[place]
            needs = (self._sources(own, digest) for digest in digests)
            own.needs = list(dict.fromkeys(needs))

    def _node(self, number: int, makes: Iterable[str], passes: str = "") -> int:
        self._nodes.append(_Node(number, passes=passes))
        for digest in {*makes} - {""}:
            self._makers.setdefault(digest, set()).add(len(self._nodes) - 1)
        return len(self._nodes) - 1

    def _sources(self, node: _Node, digest: str) -> frozenset[int]:
        """Who made it. Who only passes it on is no source for another that does the same."""
        makers = self._makers.get(digest, set()) if digest else set()
        if not node.passes:
            return frozenset(makers)
        return frozenset(
            n
            for n in makers
            if self._nodes[n].passes != node.passes and self._nodes[n].claim != node.claim
        )

    def _made(self, path: str, digest: str) -> frozenset[int]:
        """The nodes that made what is compiled. ``path``: of external data.

        These count under the name by which the model loads them only: two files of data that are
        swapped make another model, of the same digests.
        """
        makers = self._makers.get(digest, set())
        if not path:
            return frozenset(makers)
        return frozenset(
            n for n in makers if self._named(self.claims[self._nodes[n].claim], path, digest)
        )

    def _named(self, one: Claim, path: str, digest: str) -> bool:
        names = [thing.name for thing in one.makes if thing.sha256 == digest]
        if not one.passes:
            return any(posixpath.basename(name) == posixpath.basename(path) for name in names)
        model = self.wanted[0][1]
        folders = {posixpath.dirname(each.name) for each in one.makes if each.sha256 == model}
        return any(posixpath.normpath(posixpath.join(f, path)) in names for f in folders)

    def _below(self, *, stop: bool) -> set[int]:
        """The claims from which the model came; with ``stop``, only above the first step."""
        waiting = [*frozenset().union(*self._top)]
        seen = set(waiting)
        while waiting:
            node = self._nodes[waiting.pop()]
            if stop and self.label[node.claim] == 0:
                continue
            new = frozenset().union(*node.needs) - seen
            seen |= new
            waiting += new
        found = {self._nodes[number].claim for number in seen}
        return {number for number in found if not (stop and self.label[number] == 0)}

    def _lacks(self, number: int, digest: str) -> bool:
        """Whether nothing made what a claim took; of what is passed on, only what is wanted."""
        if not self.claims[number].passes:
            return not self._makers.get(digest)
        own = [self._nodes[n] for n in self._makers.get(digest, ())
               if self._nodes[n].claim == number and self._nodes[n].passes]  # fmt: skip
        return bool(own) and not any(any(node.needs) for node in own)


def _label(one: Claim, steps: tuple[str, ...]) -> int:
    """Which of the steps a claim is: by its best label that is one; -1 if none is."""
    for label in one.labels:
        if label in steps:
            return steps.index(label)
    return -1


def _together(needs: Sequence[frozenset[int]], ways: list[set[int]], label: int) -> set[int]:
    """Sets of steps that occur below a node, over all choices of a maker for each need.

    No way is one in which a later step went into an earlier one.
    """
    found = {0}
    for need in needs:
        below = _largest(set().union(*(ways[number] for number in need)))
        if label >= 0:
            below = {mask for mask in below if mask < 1 << (label + 1)}
        found = _largest({a | b for a in found for b in below})
        if not found:
            break
    return found


def _largest(masks: set[int]) -> set[int]:
    """Without those that hold less than another whose last step is the same: they help nowhere."""
    if len(masks) < 2:
        return masks
    return {
        one
        for one in masks
        if not any(
            one != other and one & other == one and one.bit_length() == other.bit_length()
            for other in masks
        )
    }
