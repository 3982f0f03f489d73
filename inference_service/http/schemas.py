"""Pieces of an OpenAPI 3.0 document: schemas of msgspec types, objects, answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}

_REFERENCE = "#/components/schemas/{name}"


def reference(kind: type[msgspec.Struct]) -> Schema:
    """Return the reference to the schema of `kind` in the document's components."""
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def components(kinds: Sequence[type[msgspec.Struct]]) -> dict[str, Schema]:
    """Return the schemas of `kinds` and of the types that they use, by type name."""
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    converted: dict[str, Schema] = _as_openapi_3_0(schemas)
    return converted


def object_schema(properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    """Return the schema of an object."""
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def answers(
    content: Mapping[str, Schema], error: Schema, reasons: Mapping[int, str], statuses: Sequence[int]
) -> Schema:
    """Return the `responses` of an operation: `content` (media type to schema) for 200, and the errors."""
    responses: Schema = {
        "200": {
            "description": "success",
            "content": {kind: {"schema": each} for kind, each in content.items()},
        }
    }
    for status in statuses:
        responses[str(status)] = {
            "description": reasons[status],
            "content": {"application/json": {"schema": error}},
        }
    if 503 in statuses:
        seconds = {"description": "Seconds, when the node is full", "schema": {"type": "integer"}}
        responses["503"]["headers"] = {"Retry-After": seconds}
    return responses


def _as_openapi_3_0(schema: Any) -> Any:
    """Rewrite JSON Schema 2020-12 for OpenAPI 3.0, the newest version that Swagger UI 4 shows.

    OpenAPI 3.0 has no null type, only the keyword `nullable`, and no empty `required`.
    """
    if isinstance(schema, list | tuple):
        return [_as_openapi_3_0(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {key: _as_openapi_3_0(value) for key, value in schema.items()}
    if converted.get("required") == []:
        del converted["required"]
    null = {"type": "null"}
    if null in converted.get("anyOf", ()):
        kinds = [kind for kind in converted.pop("anyOf") if kind != null]
        converted |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        converted |= {"nullable": True}
        converted.pop("default", None)
    return converted
