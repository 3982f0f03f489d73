"""The fields of a multipart form, in every form that clients' serialisers give to them.

A list comes as `name[]` (Python, JavaScript, .NET), as `name` given several times, as `name[0]` or `name.0`
(Go), as a JSON array in one field, or as words between commas. An object comes as `name[key]`, `name.key` or
JSON. A field without content counts as absent: many clients send all that they know.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from inference_service.http.openai.errors import FieldRefused
from inference_service.http.upload import FormPart

_NAME = re.compile(r"(?P<name>[^\[.]+)(?P<inner>\[[^\]]*\]|\.[^.\[]+)?")
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class Fields:
    """The text fields of one form. Reading one marks it as known; `unread` has the others."""

    def __init__(self, parts: Iterable[FormPart]) -> None:
        """Raises what `FormPart.text` raises."""
        self._given: dict[str, list[tuple[str, str]]] = {}  # by name: what is in its brackets, and the text
        self._read: set[str] = set()
        for part in parts:
            text = part.text()
            match = _NAME.fullmatch(part.name)
            name, inner = (match["name"], match["inner"] or "") if match else (part.name, "")
            if text.strip():
                self._given.setdefault(name, []).append((inner.strip("[]."), text))

    @property
    def unread(self) -> list[tuple[str, str]]:
        """The name and the text of the fields that nobody has read."""
        return [
            (name, text) for name, given in self._given.items() if name not in self._read for _, text in given
        ]

    def text(self, name: str) -> str | None:
        """The field's text. Raises FieldRefused for a second one."""
        given = self._take(name)
        if len(given) > 1:
            raise FieldRefused(name, f"is given {len(given)} times")
        if given and given[0][0]:
            raise FieldRefused(name, f"is not an object; {name}[{given[0][0][:40]}] is given")
        return given[0][1] if given else None

    def texts(self, name: str, *, by_comma: bool = False) -> list[str]:
        """The texts of a list, in the order of their numbers if they have some. `by_comma`: no text of this
        list has a comma, so a comma separates two."""
        given = self._take(name)
        for inner, _ in given:
            if inner and not inner.isdecimal():
                raise FieldRefused(name, f"is a list of texts; {name}[{inner[:40]}] is given")
        given.sort(key=lambda each: int(each[0] or 0))
        found = [each for _, text in given for each in _listed(name, text)]
        if by_comma:
            found = [part for each in found for part in each.split(",")]
        return [stripped for each in found if (stripped := each.strip())]

    def options(self, name: str) -> dict[str, Any] | str | None:
        """The content of a field that is a text or an object."""
        given = self._take(name)
        if not given:
            return None
        if all(inner for inner, _ in given):
            return dict(given)
        text = self.text(name) or ""
        if not text.lstrip().startswith("{"):
            return text.strip()
        try:
            found: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError):
            raise FieldRefused(name, "is not JSON, although it begins with {") from None
        return found

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """The field's text in lower case. Raises FieldRefused if it is not `allowed`."""
        value = (self.text(name) or "").strip().lower()
        if value and value not in allowed:
            raise FieldRefused(name, f"{value[:40]!r} is not known; allowed are {', '.join(allowed)}")
        return value or None

    def flag(self, name: str) -> bool:
        """Whether the field says true, 1, yes or on."""
        return self.choice(name, (*_YES, *_NO)) in _YES

    def number(self, name: str, lowest: float, highest: float) -> float | None:
        """The field's number. Raises FieldRefused if it is none, or out of range."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            raise FieldRefused(name, f"expected a number, got {text[:40]!r}") from None
        if not lowest <= value <= highest:
            shown = f"{value:g}" if math.isfinite(value) else text.strip()[:40]
            raise FieldRefused(name, f"{shown} is not between {lowest:g} and {highest:g}")
        return value

    def _take(self, name: str) -> list[tuple[str, str]]:
        self._read.add(name)
        return list(self._given.get(name, ()))


def says_no(text: str) -> bool:
    """Whether a field's text switches off what the field is for."""
    return text.strip().lower() in (*_NO, "null", "none", "[]", "{}")


def _listed(name: str, text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [text]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise FieldRefused(name, "is not a JSON array, although it begins with [") from None
    if not all(isinstance(each, str) for each in found):
        raise FieldRefused(name, "is a list of texts; its JSON array holds something else")
    return list(found)
