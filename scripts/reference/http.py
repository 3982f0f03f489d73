"""The HTTP API, from the OpenAPI document that every node serves."""

from typing import Any

from inference_service.http.openapi import document
from inference_service.settings import RequestSettings
from scripts.reference import markdown

_HEAD = """\
# HTTP API

Every route of a node, with its fields and answers. The gateway passes those under `/api/v1/ai/` and `/v1/`
on. A running fleet serves the same description as a page, `/api/v1/ai/docs`, and as OpenAPI,
`/api/v1/ai/openapi.json`. [streaming.md](../streaming.md) has WebSockets, [openai.md](../openai.md) OpenAI's
clients, [recordings.md](../recordings.md) the formats of audio. Routes without "no key" need an API key
(`X-API-Key` or `Authorization: Bearer`) where the stack has keys.
"""
#: Bodies that are only a recording: one row stands for all of them.
_RECORDINGS = ("audio/", "video/")
_METHODS = ("get", "post", "put", "delete", "patch")


def page() -> str:
    """The page as Markdown."""
    described: dict[str, Any] = document(RequestSettings())
    parts = [_HEAD]
    for path, operations in described["paths"].items():
        parts += [_operation(path, method, operations[method]) for method in _METHODS if method in operations]
    parts.append("## Types")
    parts += [_type(name, schema) for name, schema in described["components"]["schemas"].items()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    text = [f"## {method.upper()} {path}", operation.get("summary", "") + _key(operation)]
    if "description" in operation:
        text.append(operation["description"])
    if parameters := operation.get("parameters"):
        rows = [
            [
                markdown.code(each["name"]),
                each["in"],
                _kind(each.get("schema", {})),
                markdown.cell(each.get("description", "")),
            ]
            for each in parameters
        ]
        text.append(markdown.table(("parameter", "in", "type", ""), rows))
    if body := operation.get("requestBody"):
        text.append(_body(body["content"]))
    rows = [
        [status, markdown.cell(answer.get("description", "")), _answer(answer)]
        for status, answer in operation["responses"].items()
    ]
    text.append(markdown.table(("status", "", "body"), rows))
    return "\n\n".join(text)


def _key(operation: dict[str, Any]) -> str:
    return " (no key)" if operation.get("security") == [] else ""


def _body(content: dict[str, Any]) -> str:
    rows, raw = [], False
    for media_type, value in content.items():
        if media_type.startswith(_RECORDINGS) or value.get("schema", {}).get("format") == "binary":
            raw = True
        else:
            rows.append([markdown.code(media_type), _fields(value.get("schema", {}))])
    if raw:
        rows.append(["the recording's media type", "the recording itself"])
    return markdown.table(("body", "content"), rows)


def _fields(schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return _kind(schema)
    needed = schema.get("required", ())
    return ", ".join(
        markdown.code(name) + (" (required)" if name in needed else "") for name in schema["properties"]
    )


def _answer(answer: dict[str, Any]) -> str:
    found = []
    for media_type, value in answer.get("content", {}).items():
        schema = value.get("schema", {})
        data = _data(schema)
        found.append(data or _kind(schema) if "json" in media_type else markdown.code(media_type))
    return ", ".join(dict.fromkeys(each for each in found if each))


def _data(schema: dict[str, Any]) -> str:
    """The type in an envelope's `data`."""
    for part in schema.get("allOf", [schema]):
        inner = part.get("properties", {}).get("data")
        if inner:
            return f"[Envelope](#envelope), `data`: {_kind(inner)}"
    return ""


def _kind(schema: dict[str, Any]) -> str:
    return markdown.kind(schema, lambda name: f"[{name}](#{markdown.anchor(name)})")


def _type(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        [
            markdown.code(key) + (" (required)" if key in needed else ""),
            _kind(value),
            markdown.cell(value.get("description", "")),
        ]
        for key, value in schema.get("properties", {}).items()
    ]
    text = " ".join(schema.get("description", "").split())
    body = markdown.table(("field", "type", ""), rows) if rows else _kind(schema)
    return f"### {name}\n\n{text}\n\n{body}"
