"""Signing through sigstore: with an identity of the moment, and no key to keep.

It needs a network, and publishes the signer's identity and the digest of the statement, for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import StoreError, UsageError
from harness.signoff import strictjson
from harness.signoff.envelope import EnvelopeError, check_statement
from harness.signoff.keyless import INSTALL, words
from harness.tomlfile import read_limited


def sign(statement: Mapping[str, Any], token: str, config: Path | None) -> bytes:
    """A sigstore bundle with ``statement``, signed through a network.

    token: an identity token (OpenID Connect) for the audience ``sigstore``. config: the instance's
    client trust configuration, or the public instance. UsageError if it is not installed or not
    configured, StoreError if one of its services does not do its part.
    """
    try:
        from sigstore.dsse import Statement
        from sigstore.models import ClientTrustConfig
        from sigstore.oidc import IdentityToken
        from sigstore.sign import SigningContext
        from sigstore.verify import Verifier, policy
    except ImportError:
        raise UsageError("the sigstore library is not installed", INSTALL) from None
    try:
        payload = strictjson.canonical(statement)
        check_statement(strictjson.parse(payload, "the statement"))
    except (EnvelopeError, strictjson.StrictJsonError) as error:
        raise UsageError(f"the statement cannot be signed: {error}") from None
    text = None if config is None else read_limited(config, UsageError).decode("utf-8", "replace")
    try:
        trust = (
            ClientTrustConfig.production() if text is None else ClientTrustConfig.from_json(text)
        )
        identity = IdentityToken(token)
        with SigningContext.from_trust_config(trust).signer(identity) as signer:
            bundle = signer.sign_dsse(Statement(payload))
        # What does not verify here would only be found out by somebody else, later.
        own = policy.Identity(identity=identity.identity, issuer=identity.issuer)
        Verifier(trusted_root=trust.trusted_root).verify_dsse(bundle, own)
    except Exception as error:  # whatever the network, the services and their clients raise
        raise StoreError(f"sigstore could not sign: {words(error)}") from None
    return bundle.to_json().encode("utf-8")


def identity_token(path: Path | None) -> str:
    """The token in a file, or the one that the CI around us gives out; UsageError if none."""
    if path is not None:
        return read_limited(path, UsageError).decode("utf-8", "replace").strip()
    try:
        from sigstore.oidc import detect_credential
    except ImportError:
        raise UsageError("the sigstore library is not installed", INSTALL) from None
    try:
        found = detect_credential()
    except Exception as error:  # of many kinds, one for each CI
        raise UsageError(f"no identity token: {words(error)}") from None
    if not found:
        raise UsageError("no identity token", "give one in a file, or sign where a CI gives one")
    return str(found)
