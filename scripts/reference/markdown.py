"""Markdown from data: cells of tables, and JSON schemas as types and tables."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from typing import Any

Schema = Mapping[str, Any]
#: Writes the link to a type by its name.
Link = Callable[[str], str]

_LONGEST_PATTERN = 60


def cell(text: str) -> str:
    """A text as one cell of a table; what is between backticks stays code."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    plain = [each.replace("<", "&lt;").replace("*", "\\*") for each in parts[::2]]
    return "`".join(each for pair in zip_longest(plain, parts[1::2]) for each in pair if each is not None)


def code(text: str) -> str:
    """A text as code, also one with backticks, in a cell of a table."""
    mark = "``" if "`" in text else "`"
    return mark + " ".join(text.split()).replace("|", "\\|") + mark


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; cells are Markdown."""
    lines = [list(headings), *([*row] for row in rows)]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([body[0], "|" + "---|" * len(lines[0]), *body[1:]])


def anchor(heading: str) -> str:
    """The anchor that the site and forges give to a heading of one word."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def kind(schema: Schema, link: Link) -> str:
    """What a JSON schema allows, in a few words of Markdown."""
    if "$ref" in schema:
        return link(str(schema["$ref"]).rpartition("/")[2])
    if "const" in schema:
        return code(json.dumps(schema["const"], ensure_ascii=False))
    if "enum" in schema:
        return ", ".join(code(json.dumps(each, ensure_ascii=False)) for each in schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            named = [kind(each, link) for each in schema[key] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(each for each in named if each))
    given = schema.get("type", "")
    if isinstance(given, list):
        return " or ".join(kind({**schema, "type": each}, link) for each in given if each != "null")
    if given == "array":
        inner = kind(schema.get("items", {}), link)
        return f"list of {inner}" if inner else "list"
    if given == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        inner = kind(schema["additionalProperties"], link)
        return f"map to {inner}" if inner else "map"
    return cell(given + _limits(schema))


def _limits(schema: Schema) -> str:
    """The bounds of a number and the pattern of a text, where a person can read it."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = f"more than {schema['exclusiveMinimum']}"
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", {low}" if isinstance(low, str) else f", at least {low}"
    if high is not None:
        return f", at most {high}"
    pattern = str(schema.get("pattern", ""))
    return f", like {code(pattern)}" if 0 < len(pattern) <= _LONGEST_PATTERN else ""


def default(schema: Schema) -> str:
    """The default as code; nothing where there is none or it says nothing."""
    value = schema.get("default")
    if value is None or value in ([], {}):
        return ""
    return code(json.dumps(value, ensure_ascii=False))
