"""The JSON Schema of a stack file, for editors."""

import json
from pathlib import Path
from typing import Any

from infra.stack.images import ImageSource
from infra.stack.load import PROJECT
from infra.stack.types import Stack

FILE = Path(__file__).resolve().parents[2] / "stack.schema.json"


def schema() -> dict[str, Any]:
    """The schema of `Pulumi.<stack>.yaml`. It allows any key of another namespace."""
    own = Stack.model_json_schema(by_alias=True, mode="validation")
    definitions = own["$defs"]
    for name in ("Node", "Gateway"):
        # Their defaults depend on other keys of the file.
        for key in ("host", "mode"):
            definitions[name]["properties"].get(key, {}).pop("default", None)
    definitions["Gateway"]["properties"]["rateLimit"]["anyOf"].append({"const": False})
    for section in ImageSource.__subclasses__():
        if section.own_build is not None:
            definitions[section.__name__]["properties"]["build"]["anyOf"].append({"const": True})
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
    definitions, keys = _or_encrypted(definitions), _or_encrypted(own["properties"])
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
                    for key, value in keys.items()
                },
                # Keys of this project that are not above are mistakes; other namespaces are the providers'.
                "propertyNames": {
                    "anyOf": [
                        {"enum": [f"{PROJECT}:{key}" for key in keys]},
                        {"not": {"pattern": f"^{PROJECT}:"}},
                    ]
                },
            }
        },
        "$defs": definitions,
    }


def _or_encrypted(part: Any) -> Any:
    """A part of the schema, in which each secret may also be an encrypted value."""
    if isinstance(part, list):
        return [_or_encrypted(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("format") == "password":
        return {"anyOf": [part, {"$ref": "#/$defs/Encrypted"}]}
    return {key: _or_encrypted(value) for key, value in part.items()}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
