"""The nouns that every part speaks. Frozen data, no behaviour beyond what follows from the data.

All of these are plain dataclasses; files are read and written through ``pydantic.TypeAdapter``
(see :mod:`harness.records`), which also yields the published JSON Schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import ConfigDict

Strict = ConfigDict(extra="forbid")


class Verdict(StrEnum):
    """What is known about one comparison, stage, model or run. Listed from best to worst."""

    IDENTICAL = "IDENTICAL"
    EXPLAINED = "EXPLAINED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NONDETERMINISTIC = "NONDETERMINISTIC"
    UNACCOUNTED = "UNACCOUNTED"
    UNEXPLAINED = "UNEXPLAINED"

    @property
    def severity(self) -> int:
        return list(Verdict).index(self)

    @property
    def exit_code(self) -> int:
        """0 nothing to explain, 1 a finding, 2 no answer."""
        if self.severity <= Verdict.EXPLAINED.severity:
            return 0
        return 2 if self is Verdict.INCONCLUSIVE else 1


class ComparisonKind(StrEnum):
    REPEAT = "repeat"  # same toolchain, other variation
    REBUILD = "rebuild"  # same compiler and version, built by somebody else
    VERSION = "version"  # same compiler, other version
    VENDOR = "vendor"  # other compiler


class Outcome(StrEnum):
    """How one build ended. Everything but BUILT makes the model's verdict INCONCLUSIVE."""

    BUILT = "built"
    UNSUPPORTED = "unsupported"  # the compiler itself says that it cannot take this model
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    LIMIT = "limit-exceeded"
    MALFORMED = "malformed-output"


class Isolation(StrEnum):
    CONTAINER = "container"
    NAMESPACES = "namespaces"
    NONE = "none"


@dataclass(frozen=True)
class Limits:
    """What one build may use. Seconds, bytes and counts; exceeding one ends the build."""

    __pydantic_config__ = Strict

    wall_seconds: int = 900
    memory_bytes: int = 12 * 2**30
    processes: int = 256
    output_bytes: int = 4 * 2**30
    output_files: int = 20_000


@dataclass(frozen=True)
class Variation:
    """Everything around one build that must not matter to its result.

    ``name`` is unique among the builds of one toolchain. ``seed`` reproduces all values through
    :func:`harness.variations.draw`. ``clock`` is the Unix time at which the build believes to
    start, ``None`` for the real clock; ``cpus`` the number of usable CPUs, 0 for all;
    ``file_order`` the seed in which directory entries are laid down, 0 for sorted.
    """

    __pydantic_config__ = Strict

    name: str
    seed: int
    hash_seed: int
    aslr: bool
    build_path: str
    home: str
    host_name: str
    uid: int
    gid: int
    user: str
    locale: str
    time_zone: str
    clock: int | None
    umask: int
    cpus: int
    file_order: int
    environment: tuple[tuple[str, str], ...]


# The variations that can be switched one by one, in report order: name → fields of Variation.
VARIED_FIELDS: dict[str, tuple[str, ...]] = {
    "hash-seed": ("hash_seed",),
    "aslr": ("aslr",),
    "build-path": ("build_path",),
    "home": ("home",),
    "host-name": ("host_name",),
    "user": ("uid", "gid", "user"),
    "locale": ("locale",),
    "time-zone": ("time_zone",),
    "clock": ("clock",),
    "umask": ("umask",),
    "cpus": ("cpus",),
    "file-order": ("file_order",),
    "environment": ("environment",),
}


@dataclass(frozen=True)
class Artifact:
    """One file of one stage. ``name`` is its path below the stage's folder."""

    __pydantic_config__ = Strict

    stage: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Model:
    """A model to compile: its main file, its external data, and the shapes that it is fixed to.

    ``external``: (path relative to the model's folder, SHA-256) of each external data file.
    """

    __pydantic_config__ = Strict

    name: str
    path: str
    sha256: str
    inputs: dict[str, tuple[int, ...]]
    external: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Tool:
    """A program inside a toolchain's environment: path below its root, and leading arguments."""

    __pydantic_config__ = Strict

    path: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """The container image that holds a toolchain, at /toolchain unless its driver knows better.

    Built here: ``dockerfile`` upon the root file system ``base``. Or the user's own, and present:
    ``digest`` is an image id (``sha256:…``), ``reference`` a ``name@sha256:…``. ``only``: there is
    no environment beside it, so the toolchain needs a container engine.
    """

    __pydantic_config__ = Strict

    platform: str = "linux/amd64"
    dockerfile: str | None = None
    base: str | None = None
    digest: str | None = None
    reference: str | None = None
    only: bool = False


@dataclass(frozen=True)
class Toolchain:
    """One concrete, pinned build of a compiler, as its TOML file describes it."""

    __pydantic_config__ = Strict

    name: str
    compiler: str
    version: str
    publisher: str
    arch: str
    folder: str
    driver: str | None
    lock: str
    linker: str | None
    target: dict[str, str]
    tools: dict[str, Tool]
    limits: Limits
    identity: str  # sha256 over the definition, lock, driver and overlay: what is pinned
    image: Image | None = None
    redteam: str = ""  # the attack that it mounts on purpose; nothing of it may ever be released


@dataclass(frozen=True)
class BuildRecord:
    """model × toolchain × variation → what came out, and all that is needed to do it again."""

    __pydantic_config__ = Strict

    id: str
    model: str
    model_sha256: str
    toolchain: str
    toolchain_identity: str
    environment_sha256: str
    compiler: str
    version: str
    variation: Variation
    engine: str
    isolation: Isolation
    limits: Limits
    command: tuple[str, ...]
    host: dict[str, str]
    outcome: Outcome
    detail: str
    stages: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    observed: dict[str, str | int | bool] = field(default_factory=dict)
    not_applied: dict[str, str] = field(default_factory=dict)
    opened: str | None = None  # digest in the store: the files that it opened; None: not known
    # Seconds from the start to the last write to each stage's files. A toolchain could set these
    # times, so they only inform: nothing is judged or looked up by them.
    stage_ends: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Two builds whose artifacts of one stage are to be held against each other."""

    __pydantic_config__ = Strict

    kind: ComparisonKind
    model: str
    stage: str
    left: str  # build ids
    right: str


@dataclass(frozen=True)
class ArtifactDifference:
    """One artifact that is not byte-identical on both sides.

    Raw digests are always kept beside the normalized ones. ``ignored_bytes`` is how many bytes
    of the left and right artifact together the normalizers replaced.
    """

    __pydantic_config__ = Strict

    name: str
    left_sha256: str | None  # None: absent on that side
    right_sha256: str | None
    explained_by: tuple[str, ...] = ()
    normalized_sha256: str | None = None  # where both sides meet, if they do
    ignored_bytes: int = 0
    reason: str = ""


@dataclass(frozen=True)
class ComparisonResult:
    __pydantic_config__ = Strict

    comparison: Comparison
    verdict: Verdict
    artifacts: int  # how many artifacts were held against each other
    differences: tuple[ArtifactDifference, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class ReplayResult:
    """A stage regenerated from the stage above it by somebody else's tool."""

    __pydantic_config__ = Strict

    name: str
    model: str
    build: str
    toolchain: str
    replayer: str
    stage: str  # the stage that was regenerated
    sources: tuple[str, ...]
    # EXPLAINED: another LLVM than the toolchain's made something else, and its own made the same.
    verdict: Verdict  # IDENTICAL, EXPLAINED, UNEXPLAINED or INCONCLUSIVE
    expected_sha256: str
    got_sha256: str | None
    commands: tuple[tuple[str, ...], ...]
    wall_seconds: float
    detail: str = ""
    shared_with: str | None = None  # build whose replay had the same inputs and so served here
    opened: str | None = None  # as in BuildRecord
    remembered: str | None = None  # the day of the earlier run that it comes from, YYYY-MM-DD


@dataclass(frozen=True)
class LeftOver:
    """One thing in a build that the model does not ask for. Texts are one line, printable.

    ``path``: from model input to model output through it, where there is one.
    """

    __pydantic_config__ = Strict

    stage: str
    where: str
    what: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Account:
    """One respect in which a build was held against its model, without any peer.

    ``kind``: graph, constants, decisions, reach … ``things``: how many operators, constants or
    decisions were looked at; ``attributed``: those that the model asks for. ``unknown``: what could
    not be read, one line each: with any of these, and nothing left over, there is no answer.
    ``shared_with``: the build whose accounting had the same sources and so served here.
    """

    __pydantic_config__ = Strict

    kind: str
    model: str
    build: str
    toolchain: str
    stage: str
    things: int
    attributed: int
    left_over: tuple[LeftOver, ...] = ()
    unknown: tuple[str, ...] = ()
    shared_with: str | None = None
    remembered: str | None = None  # the day of the earlier run that it comes from, YYYY-MM-DD

    @property
    def verdict(self) -> Verdict:
        """UNACCOUNTED, INCONCLUSIVE, or IDENTICAL: all of it is what the model asks for."""
        if self.left_over:
            return Verdict.UNACCOUNTED
        return Verdict.INCONCLUSIVE if self.unknown else Verdict.IDENTICAL


@dataclass(frozen=True)
class Bisection:
    """Which variations make the repeats of one build differ."""

    __pydantic_config__ = Strict

    model: str
    toolchain: str
    stage: str
    cause: tuple[str, ...]  # names out of VARIED_FIELDS; empty: differs with nothing varied
    builds: int
    detail: str


@dataclass(frozen=True)
class StageVerdict:
    __pydantic_config__ = Strict

    model: str
    stage: str
    verdict: Verdict
    comparisons: dict[str, Verdict]  # worst verdict by comparison kind
    replays: dict[str, Verdict]  # worst verdict by replay name
    explained_by: tuple[str, ...]
    odd_ones_out: tuple[str, ...]
    reasons: tuple[str, ...]
    accounts: dict[str, Verdict] = field(default_factory=dict)  # worst verdict by kind


@dataclass(frozen=True)
class ModelVerdict:
    __pydantic_config__ = Strict

    model: str
    verdict: Verdict
    stages: tuple[StageVerdict, ...]
    first_divergence: str | None
    odd_ones_out: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """What a run must show before it may count as an answer."""

    __pydantic_config__ = Strict

    min_builds: int = 2
    min_toolchains: int = 1
    required_stages: tuple[str, ...] = ()
    required_replays: tuple[str, ...] = ()
    allowed_explanations: tuple[str, ...] | None = None  # None: all that the ledger holds
    allow_isolation_none: bool = True
    min_independent: dict[str, int] = field(default_factory=dict)  # stage → builders that agreed
    required_accounting: tuple[str, ...] = ()  # kinds of :class:`Account`, of every control build


@dataclass(frozen=True)
class Component:
    """The part of a toolchain that makes some of the stages, by the files that its runs opened.

    ``size`` in bytes; ``sha256`` over the files' contents, whatever their names. ``packages`` are
    the distributions that its files belong to, each with the local label of its version, if it has
    one (``name+label``). ``built_by`` and ``llvm`` are what its ELF files say of themselves. All
    three are claims.
    """

    __pydantic_config__ = Strict

    name: str
    files: int
    size: int
    sha256: str
    packages: tuple[str, ...]
    built_by: tuple[str, ...]
    llvm: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where a toolchain comes from. ``measured``: whether the files that it opened are known;
    if not, all that are installed stand for them, for the reason given."""

    __pydantic_config__ = Strict

    toolchain: str
    compiler: str
    publisher: str
    version: str
    arch: str
    base: str
    python: str
    driver_sha256: str | None
    linker: str | None
    measured: bool
    reason: str
    components: tuple[Component, ...]


@dataclass(frozen=True)
class SharedPair:
    """What two toolchains have in common.

    ``facets``: what is equal, by name; ``built_by`` the compilers that both name. ``bytes_shared``
    and ``components`` (by component) are shares from 0 to 1 of bytes opened that are identical by
    content; ``same_builder`` names the components in which the two count as one builder.
    """

    __pydantic_config__ = Strict

    left: str
    right: str
    facets: tuple[str, ...]
    built_by: tuple[str, ...]
    bytes_shared: float
    components: dict[str, float]
    same_builder: tuple[str, ...]


@dataclass(frozen=True)
class IndependentStage:
    """Who agreed on a stage of a model, and the largest set of them that are independent."""

    __pydantic_config__ = Strict

    model: str
    stage: str
    components: tuple[str, ...]  # responsible for this stage
    agreed: tuple[str, ...]
    independent: tuple[str, ...]


@dataclass(frozen=True)
class Independence:
    """How independent the toolchains of a run are. See :mod:`harness.independence`."""

    __pydantic_config__ = Strict

    threshold: float
    origins: tuple[Origin, ...]
    pairs: tuple[SharedPair, ...]
    stages: tuple[IndependentStage, ...]


@dataclass(frozen=True)
class Report:
    """Everything that one run found. ``report.json`` is this, and nothing else."""

    __pydantic_config__ = Strict

    schema_version: int
    run: str
    harness_version: str
    started: str  # ISO 8601, UTC
    wall_seconds: float
    seed: int
    complete: bool
    engine: str
    isolation: Isolation
    host: dict[str, str]
    policy: Policy
    models: tuple[Model, ...]
    toolchains: tuple[Toolchain, ...]
    builds: tuple[BuildRecord, ...]
    comparisons: tuple[ComparisonResult, ...]
    replays: tuple[ReplayResult, ...]
    bisections: tuple[Bisection, ...]
    verdicts: tuple[ModelVerdict, ...]
    verdict: Verdict
    notes: tuple[str, ...] = ()
    independence: Independence | None = None
    accounts: tuple[Account, ...] = ()
