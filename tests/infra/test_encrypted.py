"""What a person encrypts under any key of the stack file is secret in every resource and output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra.stack import Stack, StackError, load
from tests.infra.declared import Fleet, declare_loaded
from tests.infra.planted import MARK, PLACES, Key, base, matching, planted, put
from tests.infra.planted_on_hosts import HERE, NOT_HERE

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
    fleet = declare(config, PLACES[place][0], matching(None))
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


def test_every_place_is_planted_on_hosts_or_has_a_reason() -> None:
    for place in PLACES.keys() - HERE.keys():
        assert any(place.startswith(begin) for begin in NOT_HERE), place
    assert HERE.keys() <= PLACES.keys()
