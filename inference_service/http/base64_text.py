"""Base64 in the forms that clients send, decoded piece by piece.

The interpreter's lock is held by each operation on bytes until its end: one over 100 MB would stop the event
loop for a tenth of a second, in whatever thread it runs.
"""

import re
from collections.abc import Iterator

import msgspec
import pybase64

from inference_service.errors import BadRequest

#: Characters that are handled at once: less than a millisecond.
_PIECE = 128 * 1024

_DATA_URL = re.compile(rb"data:[^,]{0,200};base64,")
_WHITE_SPACE = b" \t\r\n\v\f"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
#: The longest escape of JSON, `\uXXXX`: a piece does not end inside one.
_ESCAPE = 6


def decode(quoted: memoryview, field: str) -> bytes | None:
    """Decode a JSON string, quotation marks included. Returns None for one without content.

    Accepts base64 without padding, URL-safe, in wrapped lines and as a data: URL. Raises BadRequest. Call it
    in a thread for more than some 100 kB.
    """
    try:
        return pybase64.b64decode(quoted[1:-1], validate=True) or None  # releases the interpreter's lock
    except ValueError:
        return _Decoding(field).decoded(quoted[1:-1])


class _Decoding:
    """The decoding of one text that is not plain base64."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._characters = 0
        self._is_url_safe = False
        self._is_standard = False
        self._is_padded = False
        self._left = b""  # characters that do not make whole bytes yet

    def decoded(self, text: memoryview) -> bytes | None:
        whole = b"".join(self._parts(text))
        return whole or None

    def _parts(self, text: memoryview) -> Iterator[bytes]:
        for piece in _unescaped(text):
            yield self._part(piece)
        # The letters stand for the characters that are missing: a wrong one in a lone last one is found, too.
        last = self._plain(self._left + b"AAA"[: -len(self._left) % 4])
        if self._characters % 4 == 1:
            raise self._wrong(f"{self._characters} characters cannot be whole bytes")
        yield last[: len(self._left) * 3 // 4]

    def _part(self, piece: bytes) -> bytes:
        compact = piece.translate(None, _WHITE_SPACE)
        if self._is_padded and compact.strip(b"="):
            raise self._wrong("unexpected character '='")
        content, padding, after = compact.partition(b"=")
        if padding:
            self._is_padded = True
            if after.strip(b"="):
                raise self._wrong("unexpected character '='")
        self._is_url_safe |= b"-" in content or b"_" in content
        self._is_standard |= b"+" in content or b"/" in content
        if self._is_url_safe:
            if self._is_standard:
                raise self._wrong("unexpected character: '+' or '/' beside '-' or '_'")
            content = content.translate(_TO_STANDARD)
        self._characters += len(content)
        content = self._left + content
        whole = len(content) // 4 * 4
        self._left = content[whole:]
        return self._plain(content[:whole])

    def _plain(self, content: bytes) -> bytes:
        try:
            return pybase64.b64decode(content, validate=True)
        except ValueError:
            wrong = re.search(rb"[^A-Za-z0-9+/=]", content)
            assert wrong is not None, "whole groups of base64's characters can be decoded"
            # The whole character: one outside ASCII has several bytes.
            character = content[wrong.start() : wrong.start() + 4].decode("utf-8", "ignore")[:1]
            raise self._wrong(f"unexpected character {character!r}") from None

    def _wrong(self, reason: str) -> BadRequest:
        return BadRequest(f"{self._field}: is not base64: {reason}")


def _unescaped(text: memoryview) -> Iterator[bytes]:
    """The text's bytes without JSON's escapes and without the beginning of a data: URL."""
    at = 0
    while at < len(text):
        piece = bytes(text[at : at + _PIECE])
        if at + len(piece) < len(text):
            cut = piece.rfind(b"\\", max(1, len(piece) - _ESCAPE))
            piece = piece[:cut] if cut > 0 else piece
        begins, at = at == 0, at + len(piece)
        if b"\\" in piece:
            piece = msgspec.json.decode(b'"' + piece + b'"', type=str).encode("utf-8")
        if begins and (prefix := _DATA_URL.match(piece)):
            piece = piece[prefix.end() :]
        yield piece
