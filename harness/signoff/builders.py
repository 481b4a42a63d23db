"""Who built the same, and how many of those are no copies of each other. Pure.

A builder counts with a statement under its own key, of builds that all came out alike, of the model
in question, whose library is the artifact's. Only what builders show in favour is counted: one that
says something else, too, or that says nothing, takes away only itself.

How independent they are is asked for a stage at a time, as in :mod:`harness.independence`, of the
profiles that their statements name. Those are their own claims, under their own keys.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.components import Profile
from harness.models import Isolation, Outcome
from harness.signoff.apart import Maker, Pairs, largest
from harness.signoff.holding import CLOCKS_APART, ModelId, Vouched, acceptable
from harness.signoff.interface import ReleasePolicy, Signed
from harness.signoff.predicates import Provenance, Replayed, read_replays, regenerated_by
from harness.signoff.profilematerial import read_profile
from harness.signoff.provenance import LIBRARY
from harness.signoff.said import Said

Material = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Same:
    """What counts as the same: bytes, or what a verifier that counts has explained.

    ``libraries``: the artifact, the rebuilt libraries that it matches as far as the policy asks
    for, and those that a verifier has explained by one of these. ``explained``: (stage, name,
    smaller digest, greater digest).
    """

    libraries: frozenset[str]
    explained: frozenset[tuple[str, str, str, str]] = frozenset()

    @classmethod
    def of(cls, artifact: str, vouched: Sequence[Vouched], policy: ReleasePolicy) -> Same:
        against = {each.evidence.artifact.against for each in vouched}
        libraries = {artifact, *(digest for digest in against if digest)}
        explained = frozenset(
            (pair.stage, pair.name, min(pair.left, pair.right), max(pair.left, pair.right))
            for each in vouched
            for pair in each.evidence.equivalences
            if policy.release.explained and not acceptable(each.evidence, pair.explained_by, policy)
        )
        alike = {
            digest
            for stage, _, *pair in explained
            if stage == LIBRARY and not libraries.isdisjoint(pair)
            for digest in pair
        }
        return cls(frozenset(libraries | alike), explained)

    def contents(self, stage: str, left: Maker, right: Maker) -> bool:
        return left.contents.keys() == right.contents.keys() and all(
            self._same(stage, name, digest, right.contents[name])
            for name, digest in left.contents.items()
        )

    def _same(self, stage: str, name: str, left: str, right: str) -> bool:
        return left == right or (stage, name, min(left, right), max(left, right)) in self.explained


@dataclass(frozen=True)
class Agreement:
    """``agreed``: builder → its builds that count. ``dissent``: of the same model, something else.

    ``bad``: builds that count for nothing, and why.
    """

    agreed: dict[str, list[tuple[Signed, Provenance]]] = field(default_factory=dict)
    dissent: list[tuple[Signed, Provenance]] = field(default_factory=list)
    bad: list[tuple[Signed, str]] = field(default_factory=list)


def agreement(
    said: Said, model: ModelId, same: Same, policy: ReleasePolicy, now: datetime.datetime
) -> Agreement:
    found = Agreement()
    for signed, build in said.builds:
        reasons = list(_faults(build, model, policy, now))
        if reasons:
            found.bad.append((signed, reasons[0]))
        elif build.library is None or build.library not in same.libraries:
            found.dissent.append((signed, build))
        else:
            found.agreed.setdefault(signed.signer.name, []).append((signed, build))
    return found


def _faults(
    build: Provenance, model: ModelId, policy: ReleasePolicy, now: datetime.datetime
) -> Iterator[str]:
    own = ModelId.of_build(build)
    if own.sha256 != model.sha256:
        yield f"it is of another model, {own.sha256[:12]}…"
    if own.inputs != model.inputs:
        yield "it is of the model with other shapes"
    if own.external != model.external:
        yield "it is of the model with other external data"
    if build.redteam:
        yield f"it is by a toolchain of the red team, {build.toolchain}"
    if build.isolation is Isolation.NONE and not policy.run.allow_isolation_none:
        yield "it had no isolation"
    if build.started > now + CLOCKS_APART:
        yield f"it is from the future, {build.started:%Y-%m-%d %H:%M} UTC"
    for sibling in build.siblings:
        if sibling.outcome is not Outcome.BUILT:
            yield f"of the same run, {sibling.build} {sibling.outcome}"
        elif sibling.library != build.library:
            yield f"the builder's own builds disagree: {sibling.build} made another library"


class Profiles:
    """Profiles and replays out of the materials, each read once."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._profiles: dict[str, Profile | str] = {}
        self._replays: dict[str, tuple[Replayed, ...]] = {}
        self.pairs = Pairs()

    def profile(self, digest: str, name: str) -> Profile | str:
        """The profile of the toolchain ``name``, or why there is none."""
        if not digest:
            return "its statement names no profile"
        if digest not in self._profiles:
            data = self._material(digest)
            try:
                found = "its profile is not in the bundle" if data is None else read_profile(data)
            except ValueError as error:
                found = f"its profile cannot be read: {error}"
            self._profiles[digest] = found
        found = self._profiles[digest]
        if not isinstance(found, str) and found.origin.toolchain != name:
            return "its profile is of another toolchain"
        return found

    def replays(self, digest: str | None) -> tuple[Replayed, ...]:
        """None where they cannot be had: replays only ever speak in favour."""
        if digest is None:
            return ()
        if digest not in self._replays:
            data = self._material(digest)
            try:
                self._replays[digest] = read_replays(data) if data is not None else ()
            except ValueError:
                self._replays[digest] = ()
        return self._replays[digest]


class Independence:
    """Answers how many of those who agreed are independent at a stage."""

    def __init__(self, agreement: Agreement, same: Same, profiles: Profiles) -> None:
        self._agreed = agreement.agreed
        self._same = same
        self._profiles = profiles

    def at(self, stage: str, enough: int) -> tuple[list[Maker], list[str]]:
        """A largest set at ``stage``, or one of ``enough``; and what keeps it from being larger."""
        why: list[str] = []

        def apart(left: Maker, right: Maker) -> bool:
            reason = self._together(stage, left, right)
            if reason and left.builder != right.builder:
                why.append(f"{left.name} and {right.name} {reason}")
            return not reason

        chosen = largest(list(self._makers(stage, why)), apart, enough)
        return chosen, list(dict.fromkeys(why))

    def _together(self, stage: str, left: Maker, right: Maker) -> str:
        """Why two makers do not count as two; empty if they do."""
        if left.builder == right.builder:
            return "speak with one key"
        if not self._same.contents(stage, left, right):
            return f"made different things at {stage}"
        same = self._profiles.pairs.same(left.profile, right.profile, stage)
        return f"are one builder of the {', '.join(same)}" if same else ""

    def _makers(self, stage: str, why: list[str]) -> Iterator[Maker]:
        known: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()
        for builder, builds in self._agreed.items():
            for signed, build in builds:
                contents = {
                    name.partition("/")[2]: digest
                    for name, digest in build.artifacts.items()
                    if name.partition("/")[0] == stage
                }
                if not contents:
                    why.append(f"{builder} names nothing at {stage}")
                    continue
                replayers = regenerated_by(build, self._profiles.replays(build.replays), stage)
                for name in (build.toolchain, *replayers):
                    digest = build.profiles.get(name, "")
                    key = builder, digest, tuple(sorted(contents.items()))
                    profile = self._profiles.profile(digest, name)
                    if isinstance(profile, str) and name != build.toolchain:
                        continue  # of a replayer: it would only have added one
                    if isinstance(profile, str):
                        why.append(f"{builder} ({name}): {profile}")
                    elif key not in known:
                        known.add(key)
                        yield Maker(builder, signed.file, profile, contents)
