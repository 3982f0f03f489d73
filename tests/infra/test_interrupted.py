"""What a killed update left unrecorded is told from the state."""

from __future__ import annotations

from typing import Any

import pytest

from infra.update.interrupted import Unrecorded, clear, unrecorded
from tests.infra.conftest import Double

PROVIDER = "urn:pulumi:prod::gpu-inference::pulumi:providers:docker::gpu-1"


def state(*operations: dict[str, Any]) -> dict[str, Any]:
    provider = {
        "urn": PROVIDER,
        "id": "17",
        "inputs": {"host": "ssh://root@192.0.2.10", "sshOpts": '["-i", "key"]'},
    }
    return {"resources": [provider], "pending_operations": list(operations)}


def operation(kind: str, type_: str, name: str) -> dict[str, Any]:
    resource = {"type": type_, "inputs": {"name": name}, "provider": f"{PROVIDER}::17"}
    return {"type": kind, "resource": resource}


def test_a_container_that_was_being_created_is_unrecorded_on_its_providers_host() -> None:
    seen = state(operation("creating", "docker:index/container:Container", "gpu-1-service"))
    assert list(unrecorded(seen)) == [
        Unrecorded("container", "gpu-1-service", "ssh://root@192.0.2.10", ("-i", "key"))
    ]


def test_networks_count_too() -> None:
    seen = state(operation("creating", "docker:index/network:Network", "gpu-1"))
    assert [each.kind for each in unrecorded(seen)] == ["network"]


def test_what_was_being_deleted_or_updated_is_still_in_the_state_and_left_to_pulumi() -> None:
    container = "docker:index/container:Container"
    seen = state(operation("deleting", container, "a"), operation("updating", container, "b"))
    assert list(unrecorded(seen)) == []


def test_steps_and_images_are_left_alone_for_they_run_again_as_they_are() -> None:
    seen = state(
        operation("creating", "command:local:Command", "ready"),
        operation("creating", "docker:index/image:Image", "service"),
    )
    assert list(unrecorded(seen)) == []


def test_a_state_that_was_never_written_leaves_nothing() -> None:
    assert list(unrecorded({})) == []


INTERRUPTED = operation("creating", "docker:index/container:Container", "gpu-1-service")


def test_an_interrupted_creation_that_left_a_container_is_removed(double: Double) -> None:
    ssh = double("ssh", 'case "$*" in *inspect*) echo c0ffee ;; esac')
    [sentence] = clear(state(INTERRUPTED))
    assert sentence.startswith("removed container gpu-1-service on ssh://root@192.0.2.10")
    commands = [line.partition("root@192.0.2.10 ")[2] for line in ssh.read_text().splitlines()]
    assert commands[1:] == ["docker container rm --force --volumes c0ffee"]


def test_a_container_that_the_state_has_stays(double: Double) -> None:
    # The update was killed between the creation's result and the end of its operation.
    ssh = double("ssh", "echo c0ffee")
    seen = state(INTERRUPTED)
    seen["resources"].append({"urn": "urn:pulumi:prod::x::y::gpu-1-service", "id": "c0ffee"})
    assert clear(seen) == []
    assert "docker container rm" not in ssh.read_text()


def test_an_interrupted_creation_that_left_nothing_is_no_news(double: Double) -> None:
    double("ssh", "exit 1")
    assert clear(state(INTERRUPTED)) == []


def test_a_host_out_of_reach_is_named_and_a_refusal_is_an_error(double: Double) -> None:
    double("ssh", "echo no route >&2; exit 255")
    [sentence] = clear(state(INTERRUPTED))
    assert "cannot be reached: no route" in sentence
    double("ssh", 'case "$*" in *inspect*) echo c0ffee ;; *) echo in use >&2; exit 1 ;; esac')
    with pytest.raises(RuntimeError, match="in use"):
        clear(state(INTERRUPTED))
