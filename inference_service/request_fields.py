"""Fields that a client may send with any request, over HTTP as over gRPC: its id and its language."""

import re
import secrets

from inference_service import languages
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


def language(spoken: str | None, field: str = "language") -> str | None:
    """The code of a language: the primary subtag of a tag (`zh-CN` is `zh`), or that of an English name.

    None for None, "" and `auto`: the model detects the language. Raises BadRequest naming `field`.
    """
    name = (spoken or "").strip()
    if name.lower() in ("", "auto"):
        return None
    if code := languages.code_of(name):
        return code
    match = _LANGUAGE_TAG.fullmatch(name)
    if not match:
        raise BadRequest(
            f"{field}: expected a language tag such as en or zh-CN, or an English name such as Spanish, "
            f"got {name[:40]!r}"
        )
    return match[1].lower()
