"""The JSON Schema of a stack file, for editors."""

import json
from pathlib import Path
from typing import Any

from infra.stack.images import ImageSource
from infra.stack.load import PROJECT
from infra.stack.pools import Pool
from infra.stack.types import Stack

# What names and images show; `encrypted` refuses these too.
_NEVER_ENCRYPTED = [
    ("Node", "name"),
    ("Node", "host"),
    ("Pool", "name"),
    ("Gateway", "host"),
    ("Gateway", "hosts"),
    ("Monitoring", "host"),
    ("Triton", "shmSize"),
    ("Build", "args"),
]
# `false` turns these off.
_MAY_BE_FALSE = [
    ("Gateway", "rateLimit"),
    ("Gateway", "connectionLimit"),
    ("Rollout", "judge"),
    ("Monitoring", "alertmanager"),
    ("Monitoring", "grafana"),
    *((part, key) for part in ("Triton", "Service", "EdgeLlmPart") for key in ("memory", "pidsLimit")),
]

FILE = Path(__file__).resolve().parents[2] / "stack.schema.json"


def schema() -> dict[str, Any]:
    """The schema of `Pulumi.<stack>.yaml`. It allows any key of another namespace."""
    own = Stack.model_json_schema(by_alias=True, mode="validation")
    pool = Pool.model_json_schema(by_alias=True, mode="validation")
    definitions = own["$defs"] = own["$defs"] | pool.pop("$defs") | {"Pool": pool}
    for name in ("Node", "Gateway"):
        # Their defaults depend on other keys of the file.
        for key in ("host", "mode"):
            definitions[name]["properties"].get(key, {}).pop("default", None)
    for section, key in _MAY_BE_FALSE:
        definitions[section]["properties"][key]["anyOf"].append({"const": False})
    for source in ImageSource.__subclasses__():
        if source.own_build is not None:
            definitions[source.__name__]["properties"]["build"]["anyOf"].append({"const": True})
    encrypted = {
        "type": "object",
        "properties": {"secure": {"type": "string"}},
        "required": ["secure"],
        "additionalProperties": False,
    }
    plain = [(definitions[section]["properties"], key) for section, key in _NEVER_ENCRYPTED]
    never = [properties[key] for properties, key in plain]
    for properties, key in plain:
        properties[key] = {}
    definitions, keys = _or_encrypted(definitions), _or_encrypted(own["properties"])
    for (section, key), part in zip(_NEVER_ENCRYPTED, never, strict=True):
        definitions[section]["properties"][key] = part
    # A bare address is a node too.
    on_hosts = {"anyOf": [{"$ref": "#/$defs/Node"}, definitions["Node"]["properties"]["host"]]}
    keys["nodes"]["items"] = {"anyOf": [*on_hosts["anyOf"], {"$ref": "#/$defs/Pool"}]}
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
                **_of_target(on_hosts),
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


def _of_target(on_hosts: dict[str, Any]) -> dict[str, Any]:
    """What the nodes of a stack are: pools in a cluster, else hosts."""

    def nodes(each: dict[str, Any]) -> dict[str, Any]:
        listed = {"if": {"type": "array"}, "then": {"items": each}}
        return {"properties": {f"{PROJECT}:nodes": listed}}

    target = f"{PROJECT}:target"
    return {
        "if": {"properties": {target: {"const": "kubernetes"}}, "required": [target]},
        "then": nodes({"$ref": "#/$defs/Pool"}),
        "else": nodes(on_hosts),
    }


def _or_encrypted(part: Any) -> Any:
    """A part of the schema, in which each text may also be an encrypted value."""
    if isinstance(part, list):
        return [_or_encrypted(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "string":
        about = {key: part[key] for key in ("description", "title", "default") if key in part}
        text = {key: value for key, value in part.items() if key not in about}
        return {**about, "anyOf": [text, {"$ref": "#/$defs/Encrypted"}]}
    return {key: _or_encrypted(value) for key, value in part.items()}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
