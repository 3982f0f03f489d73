"""Fields that a client may send with any request, over HTTP as over gRPC: its id and its language."""

import re
import secrets

from inference_service.errors import BadRequest

#: Request ids that are safe in a header and in a log line. The gateway's nginx uses the same pattern.
REQUEST_ID_PATTERN = "[A-Za-z0-9._:/@+=~-]{1,128}"

_REQUEST_ID = re.compile(REQUEST_ID_PATTERN)
_LANGUAGE_TAG = re.compile(r"([A-Za-z]{2,3})([-_][A-Za-z0-9]{2,8})*")


def request_id_or_new(offered: str | None) -> str:
    """The id that the client offers; a new one if it offers none or one that is not safe."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return secrets.token_hex(16)


def language(tag: str | None, field: str = "language") -> str | None:
    """The primary subtag of a language tag (`zh-CN` is `zh`), in lower case.

    None for None, "" and `auto`: the model detects the language. Raises BadRequest naming `field`.
    """
    if tag is None or tag.strip() == "" or tag.strip().lower() == "auto":
        return None
    match = _LANGUAGE_TAG.fullmatch(tag.strip())
    if not match:
        raise BadRequest(f"{field}: expected a language tag such as en or zh-CN, got {tag[:40]!r}")
    return match[1].lower()
