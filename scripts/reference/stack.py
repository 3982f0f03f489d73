"""The keys of a stack file, from its JSON Schema, which comes from the docstrings of `infra/stack/`."""

from typing import Any

from infra.stack import schema
from scripts.reference import markdown

#: The type of a value that Pulumi encrypted: allowed nearly everywhere, so it is told once.
_ENCRYPTED = "Encrypted"
_PREFIX = "gpu-inference:"

_HEAD = """\
# Keys of a stack file

Every key of `Pulumi.<stack>.yaml`, its type and its default.
[Pulumi.example.yaml](../../Pulumi.example.yaml) shows them in use, and [deploy.md](../deploy.md) says when
you need which. `fleet check` reports every mistake in a file.

Wherever a text is allowed, a value that Pulumi encrypted is, too: `{secure: …}`, as
`pulumi config set --secret --path` writes it.
"""


def page() -> str:
    """The page as Markdown."""
    document: dict[str, Any] = schema.schema()
    config = document["properties"]["config"]
    types: dict[str, Any] = document["$defs"]
    needed = set(config.get("required", ()))
    rows = [
        [markdown.code(key), _kind(value) + (" (required)" if key in needed else ""), _default(value)]
        for key, value in config["properties"].items()
    ]
    parts = [_HEAD, "## Sections", markdown.table(("key", "type", "default"), rows)]
    parts += [_type(name, types[name]) for name in _reached(config, types)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _reached(config: dict[str, Any], types: dict[str, Any]) -> list[str]:
    """The types in the order in which the keys name them."""
    found: list[str] = []

    def visit(part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                visit(each)
        elif isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name and name != _ENCRYPTED and name not in found:
                found.append(name)
                visit(types[name])
            for each in part.values():
                visit(each)

    visit(config["properties"])
    return found


def _type(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        [
            markdown.code(key) + (" (required)" if key in needed else ""),
            _kind(value),
            _default(value),
            markdown.cell(value.get("description", "")),
        ]
        for key, value in schema.get("properties", {}).items()
    ]
    text = " ".join(schema.get("description", "").split())
    body = markdown.table(("key", "type", "default", ""), rows) if rows else ""
    return f"## {name}\n\n{text}\n\n{body}"


def _kind(value: dict[str, Any]) -> str:
    described = markdown.kind(_plain(value), lambda name: f"[{name}](#{markdown.anchor(name)})")
    return described or "any"


def _default(value: dict[str, Any]) -> str:
    return markdown.default(value)


def _plain(value: Any) -> Any:
    """The schema without the alternative of an encrypted value."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    inner = {key: _plain(each) for key, each in value.items()}
    if "anyOf" in inner:
        left = [each for each in inner["anyOf"] if not each.get("$ref", "").endswith(f"/{_ENCRYPTED}")]
        del inner["anyOf"]
        return {**inner, **left[0]} if len(left) == 1 else {**inner, "anyOf": left}
    return inner
