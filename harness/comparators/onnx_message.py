"""Messages of ONNX's protobuf: digests of them, of unknown fields too."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]


def plain(text: str | bytes) -> str:
    """protobuf hands out bytes where a text is not UTF-8."""
    return text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text


def part_of(message: Any, names: Container[str]) -> Any:
    """A message with these fields only."""
    found = type(message)()
    for descriptor, content in message.ListFields():
        if descriptor.name in names:
            if hasattr(content, "extend"):
                getattr(found, descriptor.name).extend(content)
            elif hasattr(content, "ListFields"):
                getattr(found, descriptor.name).CopyFrom(content)
            else:
                setattr(found, descriptor.name, content)
    return found


def digest(message: Any, without: Container[str] = ()) -> bytes:
    """Of a message with all that it holds, unknown fields included, but for some fields."""
    if without:
        names = {one.name for one, _ in message.ListFields() if one.name not in without}
        unknown = unknown_text(UnknownFieldSet(message)).encode()
        raw = part_of(message, names).SerializeToString(deterministic=True) + unknown
    else:
        raw = message.SerializeToString(deterministic=True)
    return hashlib.sha256(raw).digest()


def unknown_text(fields: Any) -> str:
    return "".join(
        f"{one.field_number}.{one.wire_type}="
        f"{unknown_text(one.data) if one.wire_type == 3 else one.data!r};"
        for one in fields
    )
