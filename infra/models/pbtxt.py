"""The fields of a `config.pbtxt` with their lines, read without protobuf's parser, which keeps no lines."""

import re
from collections.abc import Iterator

from google.protobuf import text_encoding

_TOKEN = re.compile(
    r"""\#[^\n]* | \n | [{}<>]
    | (?P<name>[A-Za-z_]\w*) (?=\s*[:{<\[])
    | (?P<value> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | [-\w.]+ )""",
    re.VERBOSE,
)


def fields(text: str) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Path, value and line of every scalar field; each element of a list counts as a field."""
    for path, token, line in _scalars(text):
        yield path, token.strip("\"'"), line


def parameters(text: str) -> dict[str, str]:
    """The parameters with string values. A value may be several strings, which protobuf joins."""
    found: dict[str, str] = {}
    key = ""
    for path, token, _ in _scalars(text):
        if path == ("parameters", "key"):
            key = _unquoted(token)
            found[key] = ""
        elif path == ("parameters", "value", "string_value"):
            found[key] = found.get(key, "") + _unquoted(token)
    return found


def _unquoted(token: str) -> str:
    return text_encoding.CUnescape(token[1:-1]).decode("utf-8", "replace")


def _scalars(text: str) -> Iterator[tuple[tuple[str, ...], str, int]]:
    outer: list[str] = []
    field, line = "", 1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token in "{<":
            outer.append(field)
        elif token in "}>":
            field = outer.pop() if outer else ""
        elif match["name"]:
            field = token
        elif match["value"]:
            yield (*outer, field), token, line
