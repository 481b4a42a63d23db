"""A sign-off without a key: the real command, sigstore's own clients, and an instance made here."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration import test_sign_off as releases
from tests.integration import test_signoff_keyless as sigstore

pytestmark = pytest.mark.integration

signed, place = releases.signed, releases.place
instance, config = sigstore.instance, sigstore.config


def test_a_verifier_without_a_key(
    place: releases.Place, instance: sigstore.Sigstore, config: Path, tmp_path: Path
) -> None:
    trust = sigstore.trust(tmp_path, instance, name="release-ci", role="verifier")
    (tmp_path / "token").write_text(sigstore.token())
    # The key that signed it off before is no longer trusted.
    place("keys", "revoke", "alice", "--why", "replaced by sigstore", "--keys", "keys.toml")
    assert "replaced by sigstore" in place.verify(code=1)
    said = place.sign_off(
        "--artifact", "small.so", "--key", f"sigstore:{tmp_path / 'token'}",
        "--sigstore", str(trust), "--sigstore-instance", str(config), "--identity", "release-ci",
    )  # fmt: skip
    assert "SIGNED OFF small.so" in said
    said = place.verify("small.so", "--sigstore", str(trust))
    assert "release-ci passed it" in said
    # Only where the command is told that such signatures count, and for whom.
    assert "REFUSED" in place.verify(code=1)
    other = sigstore.trust(tmp_path, instance, name="release-ci", role="verifier", subject="else")
    assert "REFUSED" in place.verify("small.so", "--sigstore", str(other), code=1)


def test_nothing_refused_is_ever_signed_as_passed(
    place: releases.Place, instance: sigstore.Sigstore, config: Path, tmp_path: Path
) -> None:
    """A public log keeps signatures for ever; with one that says PASSED a bundle could be made."""
    logged: list[str] = []
    enter = instance.answers["/api/v1/log/entries"]

    def listen(request: Any, token: str) -> Any:
        envelope = json.loads(request["spec"]["proposedContent"]["envelope"])
        logged.append(base64.b64decode(envelope["payload"]).decode())
        return enter(request, token)

    instance.answers["/api/v1/log/entries"] = listen
    library = bytearray((place.root / "small.so").read_bytes())
    library[len(library) // 2] ^= 1
    (place.root / "other.so").write_bytes(library)
    trust = sigstore.trust(tmp_path, instance, name="release-ci", role="verifier")
    (tmp_path / "token").write_text(sigstore.token())
    place.sign_off(
        "--artifact", "other.so", "--key", f"sigstore:{tmp_path / 'token'}",
        "--sigstore", str(trust), "--sigstore-instance", str(config), "--identity", "release-ci",
        code=1,
    )  # fmt: skip
    results = [json.loads(each)["predicate"].get("verificationResult") for each in logged]
    assert results.count("FAILED") == 1 and "PASSED" not in results


def test_what_is_missing_is_one_line(
    place: releases.Place, instance: sigstore.Sigstore, tmp_path: Path
) -> None:
    trust = sigstore.trust(tmp_path, instance, name="release-ci", role="verifier")
    said = place.sign_off("--artifact", "small.so", "--key", "sigstore:", code=2)
    assert "needs --sigstore" in said
    said = place.sign_off(
        "--artifact", "small.so", "--key", "sigstore:", "--sigstore", str(trust),
        "--identity", "somebody", code=2,
    )  # fmt: skip
    assert "names none of" in said and "release-ci" in said
