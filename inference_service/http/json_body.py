"""JSON bodies, decoded without stopping the event loop.

The JSON decoder holds the interpreter's lock until its end, for a body of 100 MB too long in any thread. Such
a body is one recording in base64, or a few: long strings are taken out first, piece by piece, and the decoder
reads the rest.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from inference_service.errors import BadRequest

_T = TypeVar("_T")

#: Bytes up to which a body is decoded as it is.
SMALL = 64 * 1024

#: Strings from this length are taken out. What is left of the body then is limited, and so is the number of
#: quotation marks: the decoder takes milliseconds for so much.
_LONG, _MOST_LEFT, _MOST_QUOTES = 1024, 4_000_000, 100_000

#: Objects and quotation marks of a body: each costs time and memory.
MOST_MEMBERS = 100_000

#: Bytes that one search covers.
_PIECE = 1 << 20

#: Backslashes before a quotation mark; no text has so many.
_MOST_BACKSLASHES = 1000

#: Bytes of a long string in a field that is text.
_LONGEST_TEXT = 1_000_000

#: What stands for a string that was taken out. A client may send the same: it gets its own string.
_TAKEN_OUT = re.compile(r"\0string (\d{1,6})")

#: Editors and shells on Windows write it before a text in UTF-8.
_BYTE_ORDER_MARK = codecs.BOM_UTF8


class JsonBody:
    """A body, or a part of one, whose long strings were taken out."""

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest for what is no JSON, or has too many members. Call it in a thread for more than
        `SMALL` bytes."""
        self._strings: list[memoryview] = []  # with their quotation marks
        self._quotes = 0
        if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadRequest("the body is UTF-16; send JSON in UTF-8")
        start = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
        small = len(body) <= SMALL
        self._rest = body[start:] if small else b"".join(self._without_long_strings(body, start))
        if self._rest.count(b'"') + self._rest.count(b"{") > MOST_MEMBERS:
            raise BadRequest(f"the body has more than {MOST_MEMBERS} objects and quotation marks")

    def decode(self, kind: type[_T], part: bytes | None = None, where: str = "") -> _T:
        """Decode the body, or the `part` of it that an earlier decoding left raw, as a `kind`.

        Raises BadRequest with the field's path, which begins with `where`.
        """
        what = where or "the body"
        try:
            found = msgspec.json.decode(self._rest if part is None else part, type=kind)
        except msgspec.ValidationError as error:
            raise BadRequest(_plain_reason(str(error), where)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"{what} is not JSON: {error}") from None
        except RecursionError:
            raise BadRequest(f"{what} is nested too deeply") from None
        if self._strings:
            self._restore(found, where)
        return found

    def _without_long_strings(self, body: bytes, at: int) -> Iterator[bytes]:
        left = 0
        while at < len(body):
            opening = self._quote(body, at)
            closing = -1 if opening < 0 else self._closing_quote(body, opening + 1)
            is_long = closing - opening > _LONG
            end = (opening if is_long else closing + 1) if closing >= 0 else len(body)
            left += end - at
            if left > _MOST_LEFT:
                raise BadRequest(f"the body has more than {_MOST_LEFT} bytes besides its long strings")
            yield body[at:end]
            if closing < 0:
                return
            if is_long:
                yield b'"\\u0000string %d"' % len(self._strings)
                self._strings.append(memoryview(body)[opening : closing + 1])
            at = closing + 1

    def _quote(self, body: bytes, start: int) -> int:
        """The next quotation mark from `start` on, -1 if there is none."""
        self._quotes += 1
        if self._quotes > _MOST_QUOTES:
            raise BadRequest(f"the body has more than {_MOST_QUOTES} quotation marks")
        while start < len(body):
            if (found := body.find(b'"', start, start + _PIECE)) >= 0:
                return found
            start += _PIECE
        return -1

    def _closing_quote(self, body: bytes, start: int) -> int:
        """The quotation mark that ends the string whose content begins at `start`, -1 if there is none."""
        at = start
        while (at := self._quote(body, at)) >= 0:
            before = body[max(start, at - _MOST_BACKSLASHES) : at]
            if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
                return at
            at += 1
        return -1

    def _restore(self, struct: Any, where: str) -> None:
        """Put the long strings back into the fields of `struct`."""
        for field in struct.__struct_fields__:
            value = getattr(struct, field)
            path = f"{where}.{field}" if where else field
            if isinstance(value, msgspec.Raw):
                if len(value_bytes := bytes(memoryview(value)[:32])) < 32 and value_bytes[:1] == b'"':
                    text = msgspec.json.decode(value_bytes, type=str)
                    if (taken := self._taken_out(text)) is not None:
                        setattr(struct, field, msgspec.Raw(taken))
            elif isinstance(value, str):
                setattr(struct, field, self._restored(value, path))
            elif isinstance(value, dict):
                setattr(struct, field, {key: self._restored(each, path) for key, each in value.items()})

    def _restored(self, value: Any, path: str) -> Any:
        taken = self._taken_out(value) if isinstance(value, str) else None
        if taken is None:
            return value
        if len(taken) > _LONGEST_TEXT:
            raise BadRequest(f"{path}: is {len(taken)} bytes long; at most {_LONGEST_TEXT} are allowed")
        try:
            return msgspec.json.decode(taken, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"{path}: is not JSON: {error}") from None

    def _taken_out(self, text: str) -> memoryview | None:
        found = _TAKEN_OUT.fullmatch(text)
        return self._strings[int(found[1])] if found and int(found[1]) < len(self._strings) else None


def _plain_reason(reason: str, where: str) -> str:
    """Rewrite msgspec's ``Expected `int`, got `str` - at `$.a.b` `` as `a.b: expected int, got str`."""
    problem, _, path = reason.replace("`", "").partition(" - at ")
    field = path.removeprefix("$").lstrip(".")
    if missing := re.fullmatch(r"Object missing required field (\w+)", problem):
        field = f"{field}.{missing[1]}".lstrip(".")
        problem = "is required"
    field = ".".join(part for part in (where, field) if part)
    problem = problem[:1].lower() + problem[1:]
    return f"{field}: {problem}" if field else f"the body: {problem}"
