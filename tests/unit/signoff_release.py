"""A whole release: three builders, a verifier, a training run, real keys; and ways to tamper.

:class:`Release` holds the statements as data. What a test changes is signed again by whom it says,
and laid out as a bundle beside the artifact, the policy and the trust file.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from harness.components import LINKER, NAMES, Profile, content_digest
from harness.independence import assess
from harness.ledger import Ledger
from harness.models import (
    Account,
    BuildRecord,
    Component,
    Model,
    Origin,
    Report,
    Verdict,
)
from harness.signoff.envelope import open_envelope
from harness.signoff.evidence import Match, Shipped
from harness.signoff.evidence_statement import evidence_statement
from harness.signoff.interface import (
    PAYLOAD_TYPE,
    PROVENANCE,
    STATEMENT_TYPE,
    Decision,
    Rejected,
    ReleasePolicy,
    Signed,
    Trust,
)
from harness.signoff.profilematerial import profile_material
from harness.signoff.provenance import PROFILE, dump_replays
from harness.signoff.releasepolicy import load_policy
from harness.signoff.statements import (
    Context,
    bill_statement,
    build_statement,
    replays_of,
    summary_statement,
)
from harness.signoff.strictjson import canonical
from harness.signoff.summary import Rest
from harness.signoff.trust import load_trust, public_pem
from harness.signoff.verify import decide
from harness.variations import control, draw
from harness.verdict import judge_model
from tests.unit.samples import agreeing, ids, record, replayed, report, sha, toolchain

Statement = dict[str, Any]
Change = Callable[[Statement], object]

ARTIFACT = b"\x7fELF: what three builders make of the model"
RELEASE = "m 1.0"
TODAY = datetime.datetime.now(datetime.UTC)
A, B, C, D = (f"tvm/{number}-{who}-x86_64" for number, who in zip("1123", "abcd", strict=True))
REPLAYER = "llvm/1-b-x86_64"
BUILDERS = {"builder-a": A, "builder-b": B, "builder-c": C}
PEOPLE = {**dict.fromkeys(BUILDERS, "builder"), "verifier-v": "verifier", "trainer-t": "upstream"}
MODEL = Model("m", "/m.onnx", sha("the model"), {"x": (1, 8)}, (("weights.bin", sha("weights")),))
STAGES = {"graph/module.py": b"graph", "object/lib0.o": b"object", "library/model.so": ARTIFACT}

POLICY = """
[policy]
min_builds = 2
min_toolchains = 2
required_stages = ["graph", "object", "library"]
required_replays = ["graph → object"]
required_accounting = ["graph"]
allow_isolation_none = false

[policy.min_independent]
library = 2

[release]
verifiers = 1
builders = 3
chain = ["train", "build"]

[release.independent]
library = 3
object = 3
"""


@cache
def key(name: str) -> CryptoSigner:
    """The private key called ``name``: one that was made for these tests, of either kind."""
    made = CryptoSigner.generate_ecdsa if name == "builder-b" else CryptoSigner.generate_ed25519
    return made()


def keyid(name: str) -> str:
    return key(name).public_key.keyid


def profile(name: str, content: str = "") -> Profile:
    """One file of its own for each component. ``content``: of whom it has all files, if not its."""
    made = toolchain(name)
    parts = {part: {sha(f"{content or name} {part}"): 100} for part in NAMES}
    components = tuple(
        Component(part, 1, 100, content_digest(files), (), (), ()) for part, files in parts.items()
    )
    origin = Origin(
        toolchain=name, compiler=made.compiler, publisher=made.publisher, version=made.version,
        arch=made.arch, base="debian 12", python="3.11.7 /usr/bin/python", driver_sha256=sha("d"),
        linker=None, measured=True, reason="", components=components,
    )  # fmt: skip
    own = {d: s for part in NAMES if part != LINKER for d, s in parts[part].items()}
    return Profile(origin, own, own | parts[LINKER], parts)


def run_of(names: tuple[str, ...], run: str) -> Report:
    """A run of ``names``, a control and a varied build each, that all came out the same."""
    records = [
        record(name, variation, STAGES, model=MODEL)
        for name in names
        for variation in (control(), draw(1))
    ]
    comparisons = agreeing(records)
    made = sha(STAGES["object/lib0.o"])
    replays = [replace(replayed(r), got_sha256=made, expected_sha256=made) for r in records]
    accounts = [
        Account("graph", MODEL.name, each.id, each.toolchain, "graph", 3, 3)
        for each in records
        if each.variation.name == control().name
    ]
    independence = assess([profile(n) for n in (*names, REPLAYER)], records, comparisons, replays)
    least = {each.stage: len(each.independent) for each in independence.stages}
    policy = policy_of().run
    verdict = judge_model(
        MODEL, ids(records), records, comparisons, replays, policy, least, accounts
    )
    assert verdict.verdict is Verdict.IDENTICAL, verdict.reasons
    return replace(
        report(records, comparisons, replays, verdicts=(verdict,), run=run),
        policy=policy,
        models=(MODEL,),
        accounts=tuple(accounts),
        independence=independence,
    )


@cache
def policy_of(text: str = POLICY) -> ReleasePolicy:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_text(text, encoding="utf-8")
        return load_policy(Path(file.name))


@cache
def trust_of(text: str) -> Trust:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_text(text, encoding="utf-8")
        return load_trust(Path(file.name))


def published(builder: str, name: str, run: str) -> tuple[Statement, dict[str, bytes]]:
    """(statement, materials by name) of a builder's control build."""
    made = run_of((name, D if name != D else A), run)
    first: BuildRecord = made.builds[0]
    materials = {
        f"{PROFILE}{name}": profile_material(profile(name)),
        "replays": dump_replays(replays_of(first, made)),
    }
    context = Context(
        builder,
        dependencies=[("driver", sha("driver"))],
        byproducts=[(key, sha(data)) for key, data in materials.items()],
    )
    return build_statement(first, made, context), materials


def training() -> Statement:
    """The training run that made the model, as SLSA provenance."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {
                "name": name,
                "digest": {"sha256": digest},
                "annotations": {"urn:ml-compiler-harness:step": "train"},
            }
            for name, digest in (("m.onnx", MODEL.sha256), *MODEL.external)
        ],
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:example:train",
                "externalParameters": {},
                "resolvedDependencies": [{"name": "data", "digest": {"sha256": sha("data")}}],
            },
            "runDetails": {"builder": {"id": "trainer-t"}},
        },
    }


def bill() -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": sha(ARTIFACT)}]
    model = [{"alg": "SHA-256", "content": MODEL.sha256}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "library", "name": "model.so", "hashes": hashes}},
        "components": [{"type": "machine-learning-model", "name": "m", "hashes": model}],
    }


@dataclass
class Release:
    """All that is handed to `harness verify`, still open to change.

    ``statements`` and ``signers`` by name, which is also the file's; ``files``: bytes that stand
    for a statement's file as they are; ``materials`` by digest; ``identities``: what the trust file
    says, entry by entry; ``extra``: further arguments.
    """

    statements: dict[str, Statement]
    signers: dict[str, tuple[str, ...]]
    materials: dict[str, bytes]
    policy: str = POLICY
    artifact: bytes = ARTIFACT
    files: dict[str, bytes] = field(default_factory=dict)
    identities: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    withdrawn: dict[str, str] = field(default_factory=dict)
    trust: str | None = None
    extra: list[str] = field(default_factory=list)

    # tampering

    def change(self, name: str, change: Change, *signers: str) -> None:
        """Change a statement; sign it with ``signers``, or with whoever signed it before."""
        change(self.statements[name])
        self.signers[name] = signers or self.signers[name]

    def lie(self, name: str, change: Change) -> None:
        """Its signer lies; and the verifier's summary rests on the lie, as if it were true."""
        before = self.digest(name)
        change(self.statements[name])
        for rest in self.statements["summary"]["predicate"]["inputAttestations"]:
            if rest["digest"]["sha256"] == before:
                rest["digest"]["sha256"] = self.digest(name)

    def forge(self, name: str, change: Change) -> None:
        """Change what was signed, and keep the signatures."""
        envelope = json.loads(self.sealed(name))
        change(self.statements[name])
        envelope["payload"] = base64.b64encode(canonical(self.statements[name])).decode()
        self.files[name] = json.dumps(envelope).encode()

    def spell(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Sign a payload that is spelled otherwise: JSON tricks under a good signature."""
        payload = change(canonical(self.statements[name]))
        self.files[name] = sealed(payload, self.signers[name])

    def wrap(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the envelope around a statement."""
        envelope = json.loads(self.sealed(name))
        change(envelope)
        self.files[name] = json.dumps(envelope).encode()

    def drop(self, *names: str) -> None:
        for name in names:
            del self.statements[name]

    # deciding, without any files

    def opened(self, name: str) -> list[Signed] | Rejected:
        return opened(self.files.get(name) or self.sealed(name), name, self.trust_text())

    def decided(
        self, names: Collection[str] | None = None, materials: Collection[str] | None = None
    ) -> Decision:
        """The decision, by these statements and materials alone; by default by all."""
        signed: list[Signed] = []
        rejected: list[Rejected] = []
        for name in self.statements if names is None else names:
            found = self.opened(name)
            if isinstance(found, Rejected):
                rejected.append(found)
            else:
                signed += found
        there = self.materials if materials is None else {d: self.materials[d] for d in materials}
        trust, policy = trust_of(self.trust_text()), policy_of(self.policy)
        return decide(sha(self.artifact), signed, rejected, there.get, trust, policy, None, TODAY)

    # laying out

    def digest(self, name: str) -> str:
        return sha(canonical(self.statements[name]))

    def sealed(self, name: str) -> bytes:
        return sealed(canonical(self.statements[name]), self.signers[name])

    def lay_out(self, folder: Path) -> list[str]:
        """Write everything below ``folder``; the arguments of `harness verify`."""
        statements, materials = folder / "bundle/statements", folder / "bundle/materials"
        for place in (statements, materials):
            place.mkdir(parents=True)
        for name in self.statements:
            (statements / f"{name}.json").write_bytes(self.files.get(name) or self.sealed(name))
        for digest, data in self.materials.items():
            (materials / digest).write_bytes(data)
        (folder / "model.so").write_bytes(self.artifact)
        (folder / "policy.toml").write_text(self.policy, encoding="utf-8")
        (folder / "keys.toml").write_text(self.trust or self.trust_text(), encoding="utf-8")
        return [
            "verify", str(folder / "model.so"), "--bundle", str(folder / "bundle"),
            "--policy", str(folder / "policy.toml"), "--keys", str(folder / "keys.toml"),
            *self.extra,
        ]  # fmt: skip

    def trust_text(self) -> str:
        lines = []
        for name, keys in self.identities.items():
            lines += ["[[identity]]", f'name = "{name}"', f'role = "{self.roles[name]}"']
            for each in keys:
                lines += ["[[identity.key]]"]
                lines += [f"{k} = {json.dumps(v)}" for k, v in each.items()]
        for digest, reason in self.withdrawn.items():
            lines += ["[[withdrawn]]", f'sha256 = "{digest}"', f'reason = "{reason}"']
        return "\n".join(lines) + "\n"


@lru_cache(maxsize=4096)
def sealed(payload: bytes, signers: tuple[str, ...], payload_type: str = PAYLOAD_TYPE) -> bytes:
    """A DSSE envelope by hand, so that it can also hold what our own writer refuses to sign."""
    kind = payload_type.encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    signatures = [key(name).sign(message) for name in signers]
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [
            {
                "keyid": each.keyid,
                "sig": base64.b64encode(bytes.fromhex(each.signature)).decode(),
            }
            for each in signatures
        ],
    }
    return json.dumps(envelope).encode()


@lru_cache(maxsize=4096)
def opened(data: bytes, name: str, trust: str) -> list[Signed] | Rejected:
    return open_envelope(data, f"{name}.json", trust_of(trust), TODAY.date())


@cache
def _public(name: str) -> dict[str, str]:
    public = key(name).public_key
    pem = public_pem(public)
    return {"keyid": public.keyid, "scheme": public.scheme, "public": pem}


def trusted(name: str) -> dict[str, str]:
    """The entry of a key in the trust file."""
    return {
        **_public(name),
        "since": f"{TODAY - datetime.timedelta(days=30):%Y-%m-%d}",
        "until": f"{TODAY + datetime.timedelta(days=30):%Y-%m-%d}",
    }


def shipped(**changes: Any) -> Shipped:
    whole = Shipped(sha(ARTIFACT), len(ARTIFACT), Match.IDENTICAL, sha(ARTIFACT), "", ())
    return replace(whole, **changes)


@cache
def _parts() -> bytes:
    """The release as JSON, made once: tests start from copies."""
    statements: dict[str, Statement] = {}
    materials: dict[str, bytes] = {}
    for number, (builder, name) in enumerate(BUILDERS.items(), 2):
        statements[builder], own = published(builder, name, f"20260101-00000{number}-1-abcd")
        materials |= {sha(data): data for data in own.values()}
    run = run_of((A, B), "20260101-000001-1-abcd")
    for number, each in enumerate(run.builds):
        statements[f"own-{number}"] = build_statement(each, run, Context("verifier-v"))
    policy = policy_of()
    statements["evidence"] = evidence_statement(
        run, "m", shipped(), file="model.so", release=RELEASE, policy=policy,
        ledger=Ledger(()), ledger_sha256=sha("ledger"), refusals=(),
    )  # fmt: skip
    statements["bill"] = bill_statement(file="model.so", sha256=sha(ARTIFACT), bill=bill())
    statements["train"] = training()
    rests = [Rest(f"statements/{name}.json", sha(canonical(s))) for name, s in statements.items()]
    statements["summary"] = summary_statement(
        file="model.so", sha256=sha(ARTIFACT), verifier="verifier-v", verified=TODAY,
        release=RELEASE, policy_sha256=policy.sha256, rests_on=rests, passed=True,
    )  # fmt: skip
    texts = {digest: data.decode() for digest, data in materials.items()}
    return json.dumps({"statements": statements, "materials": texts}).encode()


def release() -> Release:
    """A release that verifies."""
    parts = json.loads(_parts())
    by: dict[str, str] = dict.fromkeys(parts["statements"], "verifier-v")
    by |= {name: name for name in BUILDERS} | {"train": "trainer-t"}
    return Release(
        statements=parts["statements"],
        signers={name: (signer,) for name, signer in by.items()},
        materials={digest: text.encode() for digest, text in parts["materials"].items()},
        identities={name: [trusted(name)] for name in PEOPLE},
        roles=dict(PEOPLE),
    )


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in JSON data that holds nothing else."""
    inner: Mapping[Any, Any] = {}
    if isinstance(value, dict):
        inner = value
    elif isinstance(value, list):
        inner = dict(enumerate(value))
    if not inner:
        yield path
    for name, each in inner.items():
        yield from leaves(each, (*path, name))


def other(value: Any) -> Any:
    """Something else of the same kind, as plausible as can be without knowing what it means."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        if len(value) == 64:
            return hashlib.sha256(value.encode()).hexdigest()
        return f"{value}x"
    return {"list": ["x"], "dict": {"x": "x"}, "NoneType": "x"}[type(value).__name__]
