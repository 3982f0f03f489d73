"""The fields of a `config.pbtxt` with their lines, read without protobuf's parser, which keeps no lines."""

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""\#[^\n]* | \n | [{}<>]
    | (?P<name>[A-Za-z_]\w*) (?=\s*[:{<\[])
    | (?P<value> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | [-\w.]+ )""",
    re.VERBOSE,
)


def fields(text: str) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Path, value and line of every scalar field; each element of a list counts as a field."""
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
            yield (*outer, field), token.strip("\"'"), line
