"""How independent the builders really are that agreed on a stage. Pure.

The definition, by number:

1. *Who agrees.* The toolchains whose control builds of a model have the stage and are joined by
   comparisons that came out IDENTICAL or EXPLAINED, directly or through others. A replayer that
   regenerated the stage of one of them bit for bit agrees as well: there is a replay, and all of
   its replays of that stage of that build are IDENTICAL, from whatever stage they start. Where
   there are several such classes, the one with the largest number in step 4 counts.
2. *Which component makes a stage* from the stage above it:

   | class | stages | responsible |
   |---|---|---|
   | frontend | simplified | frontend |
   | frontend | graph | frontend, compiler |
   | compiler | tensor-ir, bytecode, constants, llvm-unoptimized | compiler |
   | llvm | llvm, assembly, object | llvm |
   | linker | library | linker |
   | other | any other stage | frontend, compiler, llvm, linker |

   What a component is made of, see :mod:`harness.components`. A stage is asked about by itself:
   that the stages above it were shared shows in their own lines.
3. *One builder or two.* Two toolchains are one builder of a component if
   (a) they have the same compiler and the same publisher, and the component is not the linker:
   who publishes both can put the same thing into both, whatever the version or the machine; or
   (b) the component is the compiler or llvm, and in both of them files of it belong to a
   distribution of the same name, neither with a local version label: a package index gives a
   name to one publisher, whatever a definition calls them, and PEP 440 asks whoever builds the
   same version again to add a label; or
   (c) more than THRESHOLD of the bytes of that component in one of them, as its runs opened it,
   are in files that the other one opened as well, identical by SHA-256 (files of the environment
   of a linker that it merely uses count for the linker alone). The larger of the two directions
   counts, and names do not: a wheel under two names is one, and neither an additional file nor a
   file moved to another component makes a copy independent; or
   (d) nothing is known about the component in one of the two.
   Two are one builder of a stage if they are so in any component responsible for it, or if a
   chain of others in this run makes them so: A and B by their bytes, B and C by their publisher.
4. *The number.* How many builders (3) of the stage there are among those who agree (1). No two of
   them share a responsible component, so this is the size of a largest such set.

What it does not show: bytes are compared as whole files, so a copy that was patched throughout,
renamed and given another publisher counts as another builder; publisher, RECORD and names of
compilers are claims; the driver, the base system, Python and the sources of the compiler and of
LLVM can be shared and are not counted, but shown. Agreement between builds that share a component
proves nothing about that component.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from harness.components import COMPILER, FRONTEND, LINKER, LLVM, NAMES, Files, Profile
from harness.models import (
    BuildRecord,
    ComparisonResult,
    Independence,
    IndependentStage,
    Origin,
    Outcome,
    ReplayResult,
    SharedPair,
    Verdict,
)
from harness.variations import CONTROL

THRESHOLD = 0.1  # honest strangers share small things, such as a Python package or two
OTHER = "other"
CLASSES: dict[str, tuple[str, ...]] = {
    FRONTEND: ("simplified", "graph"),
    COMPILER: ("tensor-ir", "bytecode", "constants", "llvm-unoptimized"),
    LLVM: ("llvm", "assembly", "object"),
    LINKER: ("library",),
}


def stage_class(stage: str) -> str:
    return next((name for name, stages in CLASSES.items() if stage in stages), OTHER)


def responsible(stage: str) -> tuple[str, ...]:
    """The components that make ``stage``: step 2."""
    if stage == "graph":
        return FRONTEND, COMPILER
    name = stage_class(stage)
    return NAMES if name == OTHER else (name,)


def assess(
    profiles: Sequence[Profile],
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
) -> Independence:
    """The matrix over all profiles, and for each model and stage who agreed and how many count.

    A toolchain without a profile counts for nothing.
    """
    pairs = tuple(shared(left, right) for left, right in combinations(profiles, 2))
    known = [profile.origin.toolchain for profile in profiles]
    stages = []
    for model in dict.fromkeys(record.model for record in records):
        own = [record for record in records if record.model == model]
        for stage in dict.fromkeys(stage for record in own for stage in record.stages):
            builder = builders(known, pairs, stage)
            found = [
                (sorted(agreed), _one_of_each(sorted(agreed), builder))
                for agreed in agreeing(model, stage, own, comparisons, replays)
            ]
            agreed, chosen = max(
                found, key=lambda each: (len(each[1]), len(each[0])), default=([], ())
            )
            made_by = responsible(stage)
            stages.append(IndependentStage(model, stage, made_by, tuple(agreed), chosen))
    return Independence(THRESHOLD, tuple(p.origin for p in profiles), pairs, tuple(stages))


def counts(independence: Independence, model: str) -> dict[str, int]:
    """Stage → number of effectively independent builders that agreed on it."""
    return {
        found.stage: len(found.independent) for found in independence.stages if found.model == model
    }


def agreeing(
    model: str,
    stage: str,
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
) -> list[set[str]]:
    """Classes of toolchains and replayers that agree on a stage: step 1."""
    toolchain = {
        record.id: record.toolchain
        for record in records
        if record.model == model
        and record.outcome is Outcome.BUILT
        and record.variation.name == CONTROL
        and stage in record.stages
    }
    classes = {name: {name} for name in toolchain.values()}

    def join(left: str, right: str) -> None:
        merged = classes.get(left, {left}) | classes.get(right, {right})
        for member in merged:
            classes[member] = merged

    for result in comparisons:
        left, right = result.comparison.left, result.comparison.right
        if (
            result.comparison.stage == stage
            and result.verdict in (Verdict.IDENTICAL, Verdict.EXPLAINED)
            and left in toolchain
            and right in toolchain
        ):
            join(toolchain[left], toolchain[right])
    regenerated: dict[tuple[str, str], bool] = {}
    for replay in replays:
        if replay.stage == stage and replay.build in toolchain:
            key = toolchain[replay.build], replay.replayer
            same = replay.verdict is Verdict.IDENTICAL
            regenerated[key] = regenerated.get(key, True) and same
    for (name, replayer), same in regenerated.items():
        if same:
            join(name, replayer)
    return list({id(members): members for members in classes.values()}.values())


def shared(left: Profile, right: Profile) -> SharedPair:
    """What two toolchains have in common: step 3 for every component, and the facets to show."""
    one, other = left.origin, right.origin
    components = {
        name: overlap(
            left.parts[name], _beside(left, name), right.parts[name], _beside(right, name)
        )
        for name in NAMES
    }
    hands = _same_hands(one, other)
    return SharedPair(
        left=one.toolchain,
        right=other.toolchain,
        facets=_facets(one, other),
        built_by=tuple(sorted(_built_by(one) & _built_by(other))),
        bytes_shared=overlap(left.opened, left.opened, right.opened, right.opened),
        components=components,
        same_builder=tuple(
            name for name, share in components.items() if share > THRESHOLD or name in hands
        ),
    )


def _same_hands(one: Origin, other: Origin) -> set[str]:
    """Components that the same people made, by what both say: steps 3a and 3b."""
    if (one.compiler, one.publisher) == (other.compiler, other.publisher):
        return {FRONTEND, COMPILER, LLVM}
    packages = {part.name: set(part.packages) for part in one.components}
    return {
        part.name
        for part in other.components
        if part.name in (COMPILER, LLVM)
        and any("+" not in name for name in packages[part.name] & set(part.packages))
    }


def overlap(part: Files, opened: Files, other_part: Files, other_opened: Files) -> float:
    """The share of bytes of a part that the other side opened too; the larger direction: step 3c.

    1 where one of the parts is empty: nothing is known, so nothing speaks for independence.
    """
    return max(_contained(part, other_opened), _contained(other_part, opened))


def builders(toolchains: Sequence[str], pairs: Sequence[SharedPair], stage: str) -> dict[str, str]:
    """Toolchain → the first one of those that are one builder of ``stage`` with it: step 3."""
    builder = {name: name for name in toolchains}
    wanted = set(responsible(stage))
    for pair in pairs:
        if wanted & set(pair.same_builder):
            one, other = sorted((builder[pair.left], builder[pair.right]))
            builder = {name: one if who == other else who for name, who in builder.items()}
    return builder


def _one_of_each(agreed: Sequence[str], builder: Mapping[str, str]) -> tuple[str, ...]:
    """One toolchain of each builder: step 4."""
    first: dict[str, str] = {}
    for name in agreed:
        if name in builder:
            first.setdefault(builder[name], name)
    return tuple(first.values())


def _beside(profile: Profile, component: str) -> Files:
    """Where the other side's component is looked for. A linker's own LLVM makes no code here."""
    return profile.opened if component == LINKER else profile.own


def _contained(part: Files, opened: Files) -> float:
    total = sum(part.values())
    if not total:
        return 1.0
    return sum(size for digest, size in part.items() if digest in opened) / total


def _built_by(origin: Origin) -> set[str]:
    return {text for component in origin.components for text in component.built_by}


def _llvm(origin: Origin) -> set[str]:
    return {version for part in origin.components for version in part.llvm if part.name == LLVM}


def _facets(one: Origin, other: Origin) -> tuple[str, ...]:
    """Names of what is equal on both sides."""
    equal = {
        "compiler": one.compiler == other.compiler,
        "publisher": one.publisher == other.publisher,
        "version": (one.compiler, one.version) == (other.compiler, other.version),
        "arch": one.arch == other.arch,
        "base": one.base == other.base,
        "python": one.python == other.python,
        "driver": one.driver_sha256 is not None and one.driver_sha256 == other.driver_sha256,
        "llvm": bool(_llvm(one) & _llvm(other)),
        "linker": one.linker is not None and one.linker == other.linker,
        "built-by": bool(_built_by(one) & _built_by(other)),
    }
    return tuple(name for name, is_equal in equal.items() if is_equal)


def summary(independence: Independence, model: str) -> Iterable[tuple[str, str]]:
    """(class, ``stage number`` for each of its stages), for people, in stage order."""
    own = [found for found in independence.stages if found.model == model]
    for name in dict.fromkeys(stage_class(found.stage) for found in own):
        members = [found for found in own if stage_class(found.stage) == name]
        yield name, ", ".join(f"{found.stage} {len(found.independent)}" for found in members)
