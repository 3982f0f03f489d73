"""The JSON Schema of a stack file, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.stack.load import PROJECT
from infra.stack.types import Stack

FILE = Path(__file__).resolve().parents[2] / "stack.schema.json"


def schema() -> dict[str, Any]:
    """The schema of `Pulumi.<stack>.yaml`: this project's keys in full, Pulumi's own let through."""
    own = Stack.model_json_schema(by_alias=True, mode="validation")
    definitions = own["$defs"]
    for name in ("Node", "Gateway"):
        # What is filled in from elsewhere in the file has no default of its own.
        for key in ("host", "mode"):
            definitions[name]["properties"].get(key, {}).pop("default", None)
    definitions["Gateway"]["properties"]["rateLimit"]["anyOf"].append({"const": False})
    # A bare address is a node too.
    own["properties"]["nodes"]["items"] = {
        "anyOf": [{"$ref": "#/$defs/Node"}, definitions["Node"]["properties"]["host"]]
    }
    encrypted = {
        "type": "object",
        "properties": {"secure": {"type": "string"}},
        "required": ["secure"],
        "additionalProperties": False,
    }
    definitions["Encrypted"] = encrypted | {"description": "What `pulumi config set --secret` writes."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A GPU inference fleet",
        "type": "object",
        "required": ["config"],
        "properties": {
            "config": {
                "type": "object",
                "required": [f"{PROJECT}:nodes"],
                "properties": {
                    f"{PROJECT}:{key}": {"anyOf": [value, {"$ref": "#/$defs/Encrypted"}]}
                    for key, value in own["properties"].items()
                },
                # Keys of this project that are not above are mistakes; other namespaces are the providers'.
                "propertyNames": {
                    "anyOf": [
                        {"enum": [f"{PROJECT}:{key}" for key in own["properties"]]},
                        {"not": {"pattern": f"^{PROJECT}:"}},
                    ]
                },
            }
        },
        "$defs": definitions,
    }


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def is_fresh() -> bool:
    """Whether the file in the project is what the types say."""
    return FILE.is_file() and FILE.read_text(encoding="utf-8") == text()
