"""Reading a bundle: what is said in it by whom, and what of it counts for nothing."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from harness.signoff.bundle import Bundle
from harness.signoff.envelope import open_envelope
from harness.signoff.interface import Rejected, Signed, Trust

if TYPE_CHECKING:
    from harness.signoff.keyless import KeylessVerifier


def read_bundle(
    bundle: Bundle, trust: Trust, today: datetime.date, verifier: KeylessVerifier | None = None
) -> tuple[list[Signed], list[Rejected]]:
    """All statements of a bundle, by name of file. Raises StoreError if it cannot be read whole.

    ``verifier``: for those signed through sigstore; without it these are not read at all.
    """
    signed: list[Signed] = []
    rejected: list[Rejected] = []

    def note(found: list[Signed] | Rejected) -> None:
        if isinstance(found, Rejected):
            rejected.append(found)
        else:
            signed.extend(found)

    for each in bundle.statements():
        read = each if isinstance(each, Rejected) else open_envelope(each[1], each[0], trust, today)
        note(read)
    if verifier is not None:
        from harness.signoff.keyless import bundles

        for each in bundles(bundle.root):
            note(each if isinstance(each, Rejected) else verifier.open(each[1], each[0]))
    return signed, rejected
