"""Who signs, and with what: a key, or an identity at sigstore."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from securesystemslib.signer import Signer

from harness.errors import StoreError
from harness.signoff.bundle import Bundle
from harness.signoff.envelope import open_envelope, seal
from harness.signoff.interface import Identity, Rejected, Signed, Trust
from harness.signoff.keyless import KeylessVerifier, keep
from harness.signoff.keylesssigning import sign
from harness.signoff.summary import Rest


class Pen(Protocol):
    @property
    def identity(self) -> Identity: ...

    @property
    def signer(self) -> Signer | None:
        """For what is no statement; None if there is no key."""
        ...

    def seal(self, statement: Mapping[str, Any]) -> bytes:
        """The statement, signed, as a file."""
        ...

    def keep(self, data: bytes, bundle: Bundle) -> Rest:
        """Put it into the bundle, if it is what whoever verifies will take for ours."""
        ...


@dataclass(frozen=True)
class KeyPen:
    """A key of ``identity``."""

    signer: Signer
    identity: Identity
    trust: Trust
    today: datetime.date

    def seal(self, statement: Mapping[str, Any]) -> bytes:
        return seal(statement, [self.signer])

    def keep(self, data: bytes, bundle: Bundle) -> Rest:
        _ours(open_envelope(data, "this one", self.trust, self.today), self.identity)
        digest = bundle.add_statement(data)
        return Rest(f"statements/{digest}.json", digest)


@dataclass(frozen=True)
class KeylessPen:
    """``token``: what proves ``identity`` to the issuer. ``config``: of the sigstore instance."""

    identity: Identity
    token: str
    config: Path | None
    verifier: KeylessVerifier
    signer: None = None

    def seal(self, statement: Mapping[str, Any]) -> bytes:
        return sign(statement, self.token, self.config)

    def keep(self, data: bytes, bundle: Bundle) -> Rest:
        digest = _ours(self.verifier.open(data, "this one"), self.identity).digest
        return Rest(str(keep(bundle.root, data).relative_to(bundle.root)), digest)


def _ours(found: list[Signed] | Rejected, identity: Identity) -> Signed:
    if isinstance(found, Rejected):
        raise StoreError(f"what was signed does not verify: {found.reason}")
    own = [each for each in found if each.signer.name == identity.name]
    if not own:
        raise StoreError(f"what was signed is not by {identity.name}", "Check --identity.")
    return own[0]
