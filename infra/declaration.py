"""The declarations of steps: JSON on a step's standard input, typed and with a schema version.

Pulumi keeps a declaration in the stack's state and passes it to the step again when the resource is deleted,
which may be many releases later. So each kind reads declarations that older releases wrote.
"""

from typing import Any

import msgspec

# One version for all kinds: it rises when a kind changes, and `from_json` then converts older declarations.
_VERSION = 1


class DeclarationError(ValueError):
    """The declaration cannot be read; `str(error)` names the key that is wrong or missing."""


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every kind of declaration. `schema_version` is that of the release that wrote it."""

    schema_version: int = _VERSION

    def __repr__(self) -> str:
        # Without the values: some are secrets, and a traceback shows them.
        return f"<{type(self).__name__}>"

    def to_json(self) -> str:
        """The declaration as the step reads it; the same declaration gives the same text."""
        return msgspec.json.encode(self, order="sorted").decode()


def from_json(text: str | bytes, kind: Any) -> Any:
    """A declaration of a kind, or of one of several (a union). Raises DeclarationError.

    Version 0 was written before there were versions. It lacks the keys that have a default in version 1.
    """
    try:
        keys = msgspec.json.decode(text, type=dict[str, Any])
        version = msgspec.convert(keys.get("schema_version", 0), int)
        if version > _VERSION:
            raise DeclarationError(
                f"schema_version: a later release wrote version {version}, and this one reads versions up to "
                f"{_VERSION}"
            )
        return msgspec.convert({**keys, "schema_version": _VERSION}, kind)
    except msgspec.MsgspecError as error:
        raise DeclarationError(str(error)) from None
