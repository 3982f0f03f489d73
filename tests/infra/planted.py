"""Every key of the stack file that may have an encrypted text, from the schema, with a text for each."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inference_service.origins import ORIGIN_PATTERN
from infra.models.files import versions
from infra.stack import Stack

Key = tuple[str | int, ...]
#: In every text that tests plant; the texts of `matching` may have another one.
MARK = "planted7"
# For each pattern of a text in the schema: a text that matches it, with the mark if the pattern allows it.
_MATCHING = {
    None: '{MARK} "quoted" \\ sécret: #$x, and long: YAML breaks the line of such a text. {MARK}',
    ORIGIN_PATTERN: "https://{MARK}.example.com",
    "^https?://[^\\s@]+$": "https://{MARK}.example.com:4318",
    # API keys in one text.
    "^[\\s,]*([A-Za-z0-9._~+/=-]{8,256}([\\s,]+[A-Za-z0-9._~+/=-]{8,256})*)?[\\s,]*$": "example-1, {MARK}",
    "^[A-Za-z0-9_.@:/,\\[\\]+~-]+$": "{MARK}.example.com",
    "^[A-Za-z0-9.-]+(:[0-9]+)?$": "{MARK}.example.com:5000",
    # These have no room for the mark: the text itself is searched for.
    "^[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(/[0-9]{1,3})?$": "198.51.100.{NUMBER}/32",
    "^[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*$": "198.51.100.{NUMBER}",
    "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$": "198.51.100.{NUMBER}/24",
    "^[A-Za-z0-9_.@-]{1,15}$": "{MARK}",
    "^/": "/srv/{MARK}",
    "^/[A-Za-z0-9_./+@:,=-]+$": "/etc/{MARK}.pem",
    "^(host|sync|(s3|gs|as|claim|image)://.+)$": "s3://{MARK}/models",
    "^[A-Za-z0-9.:\\[\\]-]+:[0-9]{1,5}$": "{MARK}.example.com:587",
    "^https?://[^\\s/]+": "https://{MARK}.example.com",
    "^[A-Za-z0-9._~+/=-]{8,256}$": "{MARK}",
    "^[A-Za-z0-9_]([A-Za-z0-9_.:-]{0,252}[A-Za-z0-9_.])?$": "{MARK}.example.com",
}


def matching(pattern: str | None, mark: str = MARK, number: int = 77) -> str:
    """A text that matches a pattern of the schema, with the mark; with the number where no mark fits."""
    return _MATCHING[pattern].replace("{MARK}", mark).replace("{NUMBER}", str(number))


# Texts that are quantities: the inputs hold numbers made of them, and not the texts.
QUANTITIES = {
    "^([1-9][0-9]?|100)%$",
    "^(0|[1-9][0-9]?|100)%$",
    "^[1-9][0-9]*[kKmMgG]?[bB]?$",
    "^[1-9][0-9]{0,4}(h|d|w|y)$",
}
# Refused where they are encrypted, as test_stack.py shows.
REFUSED = re.compile(
    r"nodes\.0\.(name|host)$|gateway\.hosts?(\.0)?$|monitoring\.host$|triton\.shmSize$|\.build\.args\."
)


def texts(part: Any, definitions: dict[str, Any], key: Key = ()) -> Iterator[tuple[Key, str | None]]:
    """Every key under which the schema has a free text, with the text's pattern."""
    if "$ref" in part:
        part = definitions[part["$ref"].rpartition("/")[2]]
    for choice in part.get("anyOf", ()):
        yield from texts(choice, definitions, key)
    if part.get("type") == "string" and not {"enum", "const"} & part.keys():
        yield key, part.get("pattern")
    for name, inner in part.get("properties", {}).items():
        yield from texts(inner, definitions, (*key, name))
    if isinstance(inner := part.get("items"), dict):
        yield from texts(inner, definitions, (*key, 0))
    if isinstance(inner := part.get("additionalProperties"), dict):
        yield from texts(inner, definitions, (*key, "AN_ENTRY"))
    if part.get("additionalProperties") is True:  # settings of the service, which has a schema of its own
        yield (*key, "ai", "models", "emotion", "model_name"), None


SCHEMA = Stack.model_json_schema(by_alias=True)
PLACES = {
    ".".join(map(str, key)): (key, pattern)
    for key, pattern in texts(SCHEMA, SCHEMA["$defs"])
    if not REFUSED.search(".".join(map(str, key)))
    and pattern not in QUANTITIES
    # tests/kubernetes/ has those of a cluster.
    and key[0] != "kubernetes"
}


def base(key: Key) -> dict[str, Any]:
    """A fleet of every runtime in which the key has an effect."""
    image = {"image": "registry.example.com/edge:1"}
    config: dict[str, Any] = {
        "nodes": [
            {"name": "gpu-1", "host": "ssh://root@192.0.2.11"},
            {"name": "gpu-2", "host": "ssh://root@192.0.2.12", "runtime": "remote"},
            {"name": "gpu-3", "host": "ssh://root@192.0.2.13", "runtime": "edge-llm"},
        ],
        "remote": {"endpoint": "https://ai.example.com"},
        "edgeLlm": {"unitManager": dict(image), "llmNode": dict(image)},
        "service": {"image": "registry.example.com/service:1"},
    }
    if key[:2] == ("nodes", 0) and "remote" in key:
        config["nodes"][0]["runtime"] = "remote"
    if key[0] == "images":
        config["images"] = {"registry": "registry.example.com", "username": "deploy", "password": "example"}
        config["images"]["logins"] = [{"registry": "nvcr.io", "username": "user", "password": "example"}]
        config["service"] = {}
    if key[:2] == ("gateway", "tls"):
        config["gateway"] = {"tls": {"certificate": "/etc/a.pem", "key": "/etc/b.pem"}}
    if key[:2] == ("gateway", "console"):
        config["service"] = {}  # the service of another image may have no console
    if key[:2] == ("gateway", "virtualAddress"):
        config["gateway"] = {
            "hosts": ["ssh://root@192.0.2.1", "ssh://root@192.0.2.2"],
            "virtualAddress": {"address": "192.0.2.100/24"},
        }
    if key[:3] == ("gateway", "virtualAddress", "peers"):
        config["gateway"]["virtualAddress"]["peers"] = ["192.0.2.1"]
    if key[0] == "monitoring" and key[-1] != "existing":
        mail = {"to": "a@example.com", "from": "b@example.com", "smarthost": "mail.example.com:587"}
        login = {"username": "fleet", "password": "example"}
        config["monitoring"] = {
            "alertmanager": {"email": {**mail, **login}},
            "grafana": {"password": "example-1"},
        }
    if key in (("gateway", "confDir"), ("gateway", "nginx")):
        config["gateway"] = {"mode": "existing"}
    if key[:2] in (("models", "source"), ("models", "credentials")):
        config["models"] = {"source": "s3://bucket/models"}
        config["nodes"].pop()
    return config


def put(config: dict[str, Any], key: Key, value: Any) -> dict[str, Any]:
    """The configuration with a value at a key, without what the key excludes."""
    config = copy.deepcopy(config)
    at: Any = config
    for step, following in itertools.pairwise(key):
        if isinstance(at, list):
            at = at[step]  # type: ignore[index]
        else:
            at.pop({"build": "image", "image": "build"}.get(str(step), ""), None)
            at = at.setdefault(step, [] if following == 0 else {})
    if isinstance(at, list):
        at.append(value)
    else:
        at.pop({"build": "image", "image": "build"}.get(str(key[-1]), ""), None)
        at[key[-1]] = value
    return config


def planted(key: Key, pattern: str | None, tmp_path: Path, mark: str = MARK, number: int = 77) -> str:
    """A text for a key: a folder or a file that exists if the key names one here."""
    folder = tmp_path / mark
    if key[-1] == "context" or key == ("models", "path"):
        (folder / "asr" / "1").mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM scratch\n")
        versions.cache_clear()
        return str(folder)
    if key[-1] == "image":
        return f"registry.example.com/{mark}:1"
    return matching(pattern, mark, number)
