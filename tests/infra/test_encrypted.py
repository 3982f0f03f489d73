"""What a person encrypts under any key of the stack file is secret in every resource and output."""

from __future__ import annotations

import copy
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from inference_service.origins import ORIGIN_PATTERN
from infra.models.files import versions
from infra.stack import Stack, StackError, load
from tests.infra.declared import Fleet, declare_loaded

Key = tuple[str | int, ...]
MARK = "planted7"
# For each pattern of a text in the schema: a text that matches it, with the mark if the pattern allows it.
MATCHING = {
    None: f'{MARK} "quoted" \\ sécret: #$x, and long: YAML breaks the line of such a text. {MARK}',
    ORIGIN_PATTERN: f"https://{MARK}.example.com",
    # API keys in one text.
    "^[\\s,]*([A-Za-z0-9._~+/=-]{8,256}([\\s,]+[A-Za-z0-9._~+/=-]{8,256})*)?[\\s,]*$": f"example-1, {MARK}",
    "^[A-Za-z0-9_.@:/,\\[\\]+~-]+$": f"{MARK}.example.com",
    "^[A-Za-z0-9.-]+(:[0-9]+)?$": f"{MARK}.example.com:5000",
    # These have no room for the mark: the text itself is searched for.
    "^[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(/[0-9]{1,3})?$": "198.51.100.77/32",
    "^[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*$": "198.51.100.77",
    "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$": "198.51.100.77/24",
    "^[A-Za-z0-9_.@-]{1,15}$": MARK,
    "^/": f"/srv/{MARK}",
    "^/[A-Za-z0-9_./+@:,=-]+$": f"/etc/{MARK}.pem",
    "^(host|sync|(s3|gs|as)://.+)$": f"s3://{MARK}/models",
    "^https?://[^\\s/]+": f"https://{MARK}.example.com",
    "^[A-Za-z0-9._~+/=-]{8,256}$": MARK,
    "^[A-Za-z0-9_]([A-Za-z0-9_.:-]{0,252}[A-Za-z0-9_.])?$": f"{MARK}.example.com",
}
# Texts that are quantities: the inputs hold numbers made of them, and not the texts.
QUANTITIES = {
    "^([1-9][0-9]?|100)%$",
    "^(0|[1-9][0-9]?|100)%$",
    "^[1-9][0-9]*[kKmMgG]?[bB]?$",
}
# Refused where they are encrypted, as test_stack.py shows.
REFUSED = re.compile(r"nodes\.0\.(name|host)$|gateway\.hosts?(\.0)?$|triton\.shmSize$|\.build\.args\.")


def texts(part: Any, definitions: dict[str, Any], key: Key = ()) -> Iterator[tuple[Key, str | None]]:
    """Every key under which the schema has a free text, with the text's pattern."""
    if "$ref" in part:
        part = definitions[part["$ref"].rpartition("/")[2]]
    for choice in part.get("anyOf", ()):
        yield from texts(choice, definitions, key)
    if part.get("type") == "string" and "enum" not in part:
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
    if not REFUSED.search(".".join(map(str, key))) and pattern not in QUANTITIES
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
    if key[:2] == ("gateway", "virtualAddress"):
        config["gateway"] = {
            "hosts": ["ssh://root@192.0.2.1", "ssh://root@192.0.2.2"],
            "virtualAddress": {"address": "192.0.2.100/24"},
        }
    if key[:3] == ("gateway", "virtualAddress", "peers"):
        config["gateway"]["virtualAddress"]["peers"] = ["192.0.2.1"]
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


Declare = Callable[..., Fleet]


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """Declares a fleet whose stack file has an encrypted value at a key."""
    monkeypatch.setattr(sys.modules["infra.stack.load"], "FOLDER", tmp_path)

    def run(config: dict[str, Any], key: Key, secret: str, *, file: bool = True) -> Fleet:
        written = put(config, key, {"secure": "v1:example"})
        if file:
            text = yaml.safe_dump(
                {"config": {f"gpu-inference:{name}": each for name, each in written.items()}}
            )
            (tmp_path / "Pulumi.prod.yaml").write_text(text)
        given = put(config, key, secret)
        values = {name: each if isinstance(each, str) else json.dumps(each) for name, each in given.items()}

        def loaded() -> Stack:
            pulumi.runtime.set_all_config(
                {f"gpu-inference:{name}": value for name, value in values.items()},
                [f"gpu-inference:{key[0]}"],
            )
            return load()

        return declare_loaded(loaded)

    yield run
    pulumi.runtime.set_all_config({}, [])


def shown(fleet: Fleet, mark: str = MARK) -> list[str]:
    """Where a mark is in the clear: resources by name, and outputs."""
    found = [
        name
        for name, each in fleet.resources.items()
        if mark in each.in_clear or mark in each.urn or mark in str(each.aliases)
    ]
    return found + [told for told in fleet.told if mark in told]


def held(fleet: Fleet, mark: str = MARK) -> bool:
    """Whether the text is in a resource or a component's output at all."""
    inputs = (json.dumps(each.inputs) for each in fleet.resources.values())
    return any(mark in text for text in inputs) or any("[secret]" in told for told in fleet.told)


def planted(key: Key, pattern: str | None, tmp_path: Path) -> str:
    """A text for a key: a folder or a file that exists if the key names one here."""
    folder = tmp_path / MARK
    if key[-1] == "context" or key == ("models", "path"):
        (folder / "asr" / "1").mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM scratch\n")
        versions.cache_clear()
        return str(folder)
    if key[-1] == "image":
        return f"registry.example.com/{MARK}:1"
    return MATCHING[pattern]


@pytest.mark.parametrize("place", PLACES)
def test_an_encrypted_text_is_in_no_input_or_output_in_the_clear(
    declare: Declare, tmp_path: Path, place: str
) -> None:
    key, pattern = PLACES[place]
    config = base(key)
    secret = planted(key, pattern, tmp_path)
    if key[-1] == "dockerfile":
        (tmp_path / f"{MARK}-Dockerfile").write_text("FROM scratch\n")
        secret = f"{MARK}-Dockerfile"
        config = put(config, (*key[:-1], "context"), str(tmp_path))
    if key == ("models", "path"):
        config["models"] = {"source": "sync"}
    fleet = declare(config, key, secret)
    mark = MARK if MARK in secret else secret
    assert shown(fleet, mark) == []
    assert held(fleet, mark), "the test looks for a text that is not there in any form"


@pytest.mark.parametrize("place", ["triton.env.AN_ENTRY", "service.env.AN_ENTRY", "triton.extraArgs.0"])
def test_an_embedded_fleet_keeps_it_too(declare: Declare, place: str) -> None:
    config = {"nodes": [{"name": "dev-1", "host": "embedded"}], "gateway": {"mode": "embedded"}}
    fleet = declare(config, PLACES[place][0], MATCHING[None])
    assert shown(fleet) == []
    assert held(fleet)


def test_where_the_values_are_not_from_the_file_all_texts_under_the_key_are_secret(declare: Declare) -> None:
    config = base(("triton",)) | {"triton": {"env": {"PLAIN": f"{MARK}-2"}}}
    fleet = declare(config, ("triton", "env", "TOKEN"), MARK, file=False)
    assert shown(fleet) == []
    assert "envs" in fleet["gpu-1-triton"].secrets
    assert fleet["gpu-1-triton"].secrets == {"envs"}, "and nothing else is"


def test_what_is_not_encrypted_stays_readable_beside_it(declare: Declare) -> None:
    config = base(("triton",)) | {"triton": {"image": "registry.example.com/triton:1"}}
    fleet = declare(config, ("triton", "env", "TOKEN"), MARK)
    assert fleet["gpu-1-triton"].secrets == {"envs"}
    assert not fleet["gpu-1-service"].secrets


@pytest.mark.parametrize(
    ("key", "secret"),
    [(("ports", "http"), f"{MARK}"), (("triton", "memory"), f"{MARK}" * 30), (("rollout",), MARK)],
)
def test_a_mistake_in_an_encrypted_value_is_named_without_it(declare: Declare, key: Key, secret: str) -> None:
    with pytest.raises(StackError) as caught:
        declare(base(key), key, secret)
    assert ".".join(map(str, key)) in str(caught.value)
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [("nodes", 0, "name"), ("gateway", "host"), ("service", "build", "args", "TOKEN"), ("triton", "shmSize")],
)
def test_an_encrypted_value_that_would_be_shown_is_refused(declare: Declare, key: Key) -> None:
    with pytest.raises(StackError, match="cannot be encrypted: ") as caught:
        declare(
            base(key),
            key,
            "ssh://secret-1" if key[0] == "gateway" else "9g" if key[-1] == "shmSize" else "secret-1",
        )
    assert "secret-1" not in str(caught.value)
