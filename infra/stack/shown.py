"""How an error message quotes what somebody wrote."""

from __future__ import annotations

import json

_LONGEST = 80


def shown(value: object) -> str:
    """A value on one line: text in quotes, cut where it is long; a mapping or a list by its kind."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    # Not str(): Python does not write numbers of thousands of digits out.
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:
        return "a number that is too large"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
