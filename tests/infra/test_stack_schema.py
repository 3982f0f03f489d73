"""An editor that uses the JSON Schema accepts and refuses the same files as the types."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import yaml

from infra.paths import PROJECT
from infra.stack import StackError, parse, rules
from infra.stack.load import PROJECT as NAMESPACE
from infra.stack.schema import schema

SCHEMA = jsonschema_rs.validator_for(schema())
# Values that a user may write by mistake for any key.
MISTAKES: list[Any] = [
    *(None, True, False, 0, -1, 1, 1.5, 8800, 65536),
    *("", " ", "all", "none", "true", "25%", "0%", "1g", "512M", "é", "a,b", "a" * 300, "gpu-1", "${x}"),
    *("ssh://a", "ssh://root@192.0.2.1:22", "ssh://", "ssh://a b", "unix:///x", "unix://x", "embedded"),
    *("https://192.0.2.9", "host", "sync", "s3://b", "s4://b", "/abs", "../x", "/a b", "example-key-1"),
    *([], {}, [1], ["a"], ["example-key-1"], [0, 0], [[]], [{}], {"a": 1}, {"a": "b"}, {"host": "ssh://a"}),
    *({"context": "."}, {"image": "a"}, {"build": True}, {"requestsPerSecond": 0}, {"http": 1}),
]
Path = tuple[str | int, ...]


def example() -> dict[str, Any]:
    """The documented stack, with the keys that it shows in comments."""
    config = yaml.safe_load((PROJECT / "Pulumi.example.yaml").read_text(encoding="utf-8"))["config"]
    found: dict[str, Any] = {key.removeprefix(f"{NAMESPACE}:"): value for key, value in config.items()}
    del found["nodes"][2]  # an Edge-LLM node, which reads no object store
    found["nodes"][0]["remote"] = {"endpoint": "https://ai.example.com", "token": "example"}
    found["triton"] |= {"memory": "32g", "user": "1000:1000"}
    found["gateway"] |= {
        "tls": {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/b.pem"},
        "bind": "192.0.2.1",
    }
    found["gateway"] |= {"confDir": "/etc/nginx/conf.d", "nginx": "docker exec site-nginx nginx"}
    found["models"] = {"source": "s3://bucket/models", "credentials": {"AWS_ACCESS_KEY_ID": "example"}}
    found["ssh"] = {"knownHosts": "./known_hosts", "proxyJump": "bastion.example.com"}
    found["images"] = {"registry": "registry.example.com", "username": "deploy", "password": "example"}
    found["apiKeys"] = ["example-key-1"]
    found["service"]["config"] = {}  # the service's own settings are not in the schema
    return found


def document(config: dict[str, Any]) -> dict[str, Any]:
    return {"config": {f"{NAMESPACE}:{key}": value for key, value in config.items()}}


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every path in a configuration except the root."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from paths(each, (*path, key))


EXAMPLE = example()


def at(path: Path) -> Any:
    value: Any = EXAMPLE
    for key in path:
        value = value[key]
    return value


def changed(path: Path, change: Any) -> dict[str, Any]:
    config = copy.deepcopy(EXAMPLE)
    at: Any = config
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = copy.deepcopy(change)
    return config


def mistakes(config: dict[str, Any]) -> list[str]:
    try:
        parse(config)
    except StackError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("name", ["dev", "example"])
def test_the_projects_own_stack_files_are_accepted(name: str) -> None:
    SCHEMA.validate(yaml.safe_load((PROJECT / f"Pulumi.{name}.yaml").read_text(encoding="utf-8")))


def test_the_example_with_every_key_is_accepted_by_both() -> None:
    assert mistakes(EXAMPLE) == []
    SCHEMA.validate(document(EXAMPLE))


@pytest.mark.parametrize("key", list(EXAMPLE))
def test_both_accept_and_refuse_the_same_at_every_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A schema cannot express rules over several keys.
    monkeypatch.setattr(rules, "check", lambda nodes, sections: iter(()))
    monkeypatch.setattr(rules, "unique_names", lambda names: iter(()))
    for path in (path for path in paths(EXAMPLE) if path[0] == key):
        for mistake in MISTAKES:
            config = changed(path, mistake)
            errors = mistakes(config)
            assert SCHEMA.is_valid(document(config)) == (errors == []), (path, mistake, errors)


def test_a_value_that_pulumi_encrypted_is_accepted_wherever_a_text_is() -> None:
    texts = [path for path in paths(EXAMPLE) if isinstance(at(path), str)]
    assert len(texts) > 30
    for path in [*texts, ("apiKeys",), ("models",)]:
        encrypted = document(changed(path, {"secure": "v1:example"}))
        assert SCHEMA.is_valid(encrypted) == (not shown_by_names_or_images(path)), path


def shown_by_names_or_images(path: Path) -> bool:
    of_host = path[0] in ("nodes", "gateway", "monitoring") and path[-1] in ("name", "host")
    return (
        of_host
        or path[-1] == "shmSize"
        or path[-2:-1] == ("args",)
        or (path[0] == "nodes" and len(path) == 2)
    )


def test_an_unknown_key_is_refused_and_a_providers_is_not() -> None:
    assert not SCHEMA.is_valid(document(EXAMPLE | {"modles": {}}))
    known = document(EXAMPLE)
    known["config"]["docker:host"] = "unix:///var/run/docker.sock"
    SCHEMA.validate(known)
