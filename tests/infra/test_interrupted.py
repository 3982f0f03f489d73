"""What a killed update left unrecorded is told from the state."""

from __future__ import annotations

from infra.update.interrupted import Unrecorded, unrecorded

PROVIDER = "urn:pulumi:prod::gpu-inference::pulumi:providers:docker::gpu-1"


def state(*operations: dict[str, object]) -> dict[str, object]:
    provider = {
        "urn": PROVIDER,
        "id": "17",
        "inputs": {"host": "ssh://root@192.0.2.10", "sshOpts": '["-i", "key"]'},
    }
    return {"resources": [provider], "pending_operations": list(operations)}


def operation(kind: str, type_: str, name: str) -> dict[str, object]:
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
