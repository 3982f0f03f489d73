"""Pieces of an OpenAPI 3.1 document: schemas of msgspec types, objects, answers."""

from collections.abc import Callable, Mapping, Sequence
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
    return schemas


def object_schema(properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    """Return the schema of an object."""
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def answers(
    content: Mapping[str, Schema],
    error: Schema,
    reasons: Mapping[int, str],
    statuses: Sequence[int],
    examples: Mapping[str, Any],
    error_example: Callable[[int, str], Any],
) -> Schema:
    """Return the `responses` of an operation: `content` (media type to schema) for 200, and the errors.

    `examples` are those of 200 by media type; `error_example` makes one of a status and its reason.
    """
    shown: Schema = {kind: {"schema": each} for kind, each in content.items()}
    for kind, example in examples.items():
        shown[kind]["example"] = example
    responses: Schema = {"200": {"description": "success", "content": shown}}
    for status in statuses:
        example = error_example(status, reasons[status])
        responses[str(status)] = {
            "description": reasons[status],
            "content": {"application/json": {"schema": error, "example": example}},
        }
    if 503 in statuses:
        seconds = {"description": "Seconds, when the node is full", "schema": {"type": "integer"}}
        responses["503"]["headers"] = {"Retry-After": seconds}
    return responses
