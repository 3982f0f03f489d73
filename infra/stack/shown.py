"""How an error message quotes a value of the stack file."""

import json

_LONGEST = 80


def shown(value: object) -> str:
    """A value on one line: text in quotes and shortened; a mapping or a list by its kind only."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    # Python refuses to print integers of thousands of digits.
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:
        return "a number that is too large"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
