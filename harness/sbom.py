"""A bill of materials for a toolchain's environment: CycloneDX 1.6, JSON, deterministic.

What is in it: the toolchain itself (identity, environment digest), its driver and linker, Python
and the base system, every installed wheel, and the Debian packages of an image.

Two things about a wheel are told apart. ``hashes`` holds its SHA-256 only where the lock leaves no
choice. A lock that lists a wheel for each platform does not say which one was installed, so those
stand as ``harness:sha256-one-of``, and ``harness:installed-sha256`` covers the contents of the
files that are really there. Names and versions come out of the environment, so from the toolchain.

The same environment gives the same bytes: the serial number is made from the content, and the
time is ``epoch`` (``SOURCE_DATE_EPOCH``) or left out.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from harness.components import Base
from harness.distributions import distributions
from harness.environments import Environment, files_of
from harness.lockfile import hashes_of
from harness.models import Toolchain
from harness.text import printable

_SERIALS = uuid.UUID("6f2a1c1e-0f0f-5d7b-9a55-6d0c1b7a4e21")  # a namespace of our own
_MAX_STATUS_BYTES = 64 * 2**20
_MAX_PACKAGES = 50_000
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9.+-]{0,200}\Z")


@dataclass(frozen=True)
class Unpacked:
    """An image's digest, and a folder with its ``var/lib/dpkg/status``, if there is one."""

    digest: str
    root: Path | None


def bill(
    toolchain: Toolchain,
    environment: Environment,
    base: Base,
    *,
    linker: tuple[Toolchain, Environment] | None = None,
    image: Unpacked | None = None,
    epoch: int | None = None,
) -> bytes:
    """The bill of materials of one toolchain. ``epoch``: Unix time to put in, or None.

    Raises ToolchainError if the environment's list of files is damaged, OSError if the driver, the
    lock or an image's package list cannot be read.
    """
    root = _application(toolchain, environment)
    parts = [_system(base, image), _python(base), *_wheels(toolchain, environment)]
    if toolchain.driver is not None:
        parts.append(_driver(Path(toolchain.driver)))
    if linker is not None:
        tool = _application(*linker)
        parts += [tool, *_wheels(*linker)]
    if image is not None and image.root is not None:
        parts += _debian(image.root)
    bom = Bom(components=parts)
    bom.metadata.component = root
    bom.register_dependency(root, parts)
    bom.serial_number = uuid.uuid5(_SERIALS, toolchain.identity + environment.sha256)
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(epoch or 0, datetime.UTC)
    content = json.loads(JsonV1Dot6(bom).output_as_string())
    if epoch is None:
        del content["metadata"]["timestamp"]
    return json.dumps(content, indent=1, sort_keys=True).encode("ascii") + b"\n"


def debian_packages(root: Path) -> Iterator[tuple[str, str, str]]:
    """(name, version, architecture) of each package that dpkg below ``root`` has installed.

    At most 50,000, and what is not named as a Debian package is passed over: the file is an
    image's own claim. Nothing where there is no such file, or a link in its place.
    """
    status = root / "var/lib/dpkg/status"
    inside = status.resolve().is_relative_to(root.resolve())
    if status.is_symlink() or not status.is_file() or not inside:
        return
    with status.open("rb") as file:
        text = file.read(_MAX_STATUS_BYTES).decode("utf-8", "replace")
    for stanza in text.split("\n\n", _MAX_PACKAGES)[:_MAX_PACKAGES]:
        lines = (line.partition(": ") for line in stanza.splitlines() if line[:1].isalpha())
        found = {key: value.strip() for key, _, value in lines}
        if found.get("Status", "").split()[-1:] != ["installed"]:
            continue
        name, version = found.get("Package", ""), found.get("Version", "")
        if _DEBIAN.match(name) and version:
            yield name, printable(version, 200), printable(found.get("Architecture", ""), 40)


def _application(toolchain: Toolchain, environment: Environment) -> Component:
    return Component(
        name=toolchain.name,
        type=ComponentType.APPLICATION,
        version=toolchain.version,
        publisher=toolchain.publisher,
        bom_ref=f"toolchain:{toolchain.name}",
        properties=_properties(
            {
                "harness:arch": toolchain.arch,
                "harness:identity-sha256": toolchain.identity,
                "harness:environment-sha256": environment.sha256,
            }
        ),
    )


def _system(base: Base, image: Unpacked | None) -> Component:
    name, _, version = (base.system, "", "") if image else base.system.partition(" ")
    facts = {"harness:of": "the host"}
    if image is not None:
        facts = {"harness:image-digest": image.digest}
        if image.root is None:
            facts["harness:packages"] = "not listed: its package list was not copied out"
    return Component(
        name=name,
        type=ComponentType.OPERATING_SYSTEM,
        version=version or None,
        bom_ref="base",
        properties=_properties(facts),
    )


def _python(base: Base) -> Component:
    version, _, place = base.python.partition(" ")
    if not version[:1].isdigit():
        version, place = "", base.python
    return Component(
        name=platform.python_implementation(),
        type=ComponentType.PLATFORM,
        version=version or None,
        bom_ref="python",
        properties=_properties({"harness:path": place}),
    )


def _driver(path: Path) -> Component:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Component(
        name=path.name, type=ComponentType.FILE, bom_ref="driver", hashes=[_sha256(digest)]
    )


def _wheels(toolchain: Toolchain, environment: Environment) -> Iterator[Component]:
    locked = hashes_of(Path(toolchain.lock)) if toolchain.lock else {}
    for found in distributions(environment.root, files_of(environment)):
        hashes = locked.get((found.name, found.version), ())
        facts = {
            "harness:installed-sha256": found.sha256,
            "harness:installed-bytes": str(found.size),
        }
        if len(hashes) != 1:
            facts["harness:sha256-one-of"] = " ".join(hashes) or "none: not in the lock"
        name, version = printable(found.name, 200), printable(found.version, 100)
        yield Component(
            name=name,
            version=version,
            bom_ref=f"wheel:{toolchain.name}:{name}@{version}",
            purl=PackageURL("pypi", name=name, version=version),
            hashes=[_sha256(hashes[0])] if len(hashes) == 1 else [],
            properties=_properties(facts),
        )


def _debian(root: Path) -> Iterator[Component]:
    for name, version, arch in sorted(set(debian_packages(root))):
        yield Component(
            name=name,
            version=version,
            bom_ref=f"deb:{name}@{version}:{arch}",
            purl=PackageURL("deb", "debian", name, version, {"arch": arch} if arch else None),
        )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _properties(facts: dict[str, str]) -> Iterable[Property]:
    return [Property(name=name, value=value) for name, value in sorted(facts.items())]
