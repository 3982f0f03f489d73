"""What somebody changed on a host in what steps wrote there is found, and the same steps write it again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.gateway import reload
from infra.gateway.plan import gateway_plan
from infra.models.files import versions
from infra.models.records import READ_BYTES
from infra.stack import Stack, parse_host
from infra.steps import gateway as gateway_step
from infra.update.written import ModelDifferences, Written, read
from tests.infra.conftest import Double
from tests.infra.declared import declare
from tests.infra.test_model_sync import RUNNING, Node, source, told

pytestmark = pytest.mark.fast

__all__ = ["source"]

HOST = "unix:///nowhere.sock"


@pytest.fixture
def stack(source: Path, tmp_path: Path, double: Double) -> Stack:
    """A node and a gateway, both on a host that is this computer."""
    double("docker", RUNNING)
    versions.cache_clear()
    return declared(source, tmp_path)


def declared(source: Path, tmp_path: Path, **changes: Any) -> Stack:
    """The stack with other values of some keys."""
    return Stack.model_validate(
        {
            "nodes": [{"name": "gpu-1", "host": HOST}],
            "gateway": {"host": HOST},
            "models": {"source": "sync", "path": str(source)},
            "remoteDir": str(tmp_path / "host"),
            "service": {"image": "registry.example.com/service:1"},
            **changes,
        }
    )


@pytest.fixture
def node(source: Path, tmp_path: Path, stack: Stack) -> Node:
    """The node after its first update."""
    node = Node(source, tmp_path / "host" / stack.name / "gpu-1" / "models")
    node.copy()
    node.activate("triton")
    write_gateway(stack)
    return node


def write_gateway(stack: Stack) -> Path:
    """Has the step write the gateway's configuration. Returns its folder."""
    configuration = gateway_plan(stack).configuration
    assert configuration is not None
    gateway_step.apply(configuration)
    return Path(configuration.folder)


def differences(stack: Stack) -> Written:
    found = read(stack, 10)
    assert not found.unread
    return found


def file_of(node: Node, model: str = "asr") -> Path:
    """A file of the copy in use, as the login on the host may write it."""
    file = (node.repository / model / "1" / "model.py").resolve()
    for path in (file, file.parent, file.parents[1]):
        path.chmod(path.stat().st_mode | 0o200)
    return file


def repair(node: Node, double: Double) -> list[str]:
    """Runs the steps again; returns what Triton was told."""
    docker = double("docker", RUNNING)
    before = len(told(docker))
    node.copy()
    node.activate("triton")
    return told(docker)[before:]


def test_what_nobody_changed_has_no_difference(stack: Stack, node: Node) -> None:
    assert differences(stack).lines() == []


@pytest.mark.parametrize("how", ["another size", "the same size", "the same size and time", "deleted"])
def test_a_file_that_somebody_changed_is_named_and_copied_again(
    stack: Stack, node: Node, double: Double, how: str
) -> None:
    file = file_of(node)
    status = file.stat()
    if how == "deleted":
        file.unlink()
    else:
        file.write_text("# another\n" if how == "another size" else "# 0ne\n")
    if how == "the same size and time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = differences(stack).of_node("gpu-1")
    assert found.reasons == ("model asr: 1/model.py is not as it was copied",)
    assert found.copies == {"asr"}
    assert repair(node, double) == ["load asr"]
    assert node.text("asr") == "# one\n"
    assert differences(stack).lines() == []
    assert repair(node, double) == [], "the second update has Triton load it again"


def test_a_file_that_somebody_added_is_named(stack: Stack, node: Node, double: Double) -> None:
    (file_of(node).parent / "weights").write_text("x")
    assert differences(stack).lines() == ["node gpu-1: model asr: 1/weights is not as it was copied"]
    repair(node, double)
    assert differences(stack).lines() == []


def test_a_file_with_other_times_and_the_same_content_is_no_difference(stack: Stack, node: Node) -> None:
    file = file_of(node)
    file.write_text(file.read_text())
    os.utime(file, (1, 1))
    assert differences(stack).lines() == []


def test_a_large_file_with_other_times_counts_as_changed_and_is_not_read(
    source: Path, tmp_path: Path, stack: Stack, node: Node
) -> None:
    (source / "asr" / "1" / "weights").write_bytes(b"")
    os.truncate(source / "asr" / "1" / "weights", READ_BYTES + 1)
    node.copy()
    node.activate("triton")
    assert differences(stack).lines() == []
    os.utime(file_of(node).parent / "weights", (1, 1))
    assert differences(stack).lines() == ["node gpu-1: model asr: 1/weights is not as it was copied"]


def test_a_link_that_leads_elsewhere_is_named_and_put_back(
    stack: Stack, node: Node, tmp_path: Path, double: Double
) -> None:
    (node.repository / "asr").unlink()
    (node.repository / "asr").symlink_to("../store/mine")
    assert differences(stack).lines() == ["node gpu-1: model asr: its link leads to ../store/mine"]
    assert differences(stack).of_node("gpu-1").copies == set()
    assert repair(node, double) == ["load asr"]
    assert differences(stack).lines() == []


def test_a_folder_in_the_place_of_a_link_is_replaced(stack: Stack, node: Node, double: Double) -> None:
    (node.repository / "asr").unlink()
    (node.repository / "asr" / "1").mkdir(parents=True)
    assert differences(stack).lines() == ["node gpu-1: model asr: its link is gone"]
    repair(node, double)
    assert node.text("asr") == "# one\n"


def test_a_copy_that_somebody_removed_is_made_again_and_loaded(
    stack: Stack, node: Node, double: Double
) -> None:
    copy = file_of(node).parents[1]
    shutil.rmtree(copy)
    assert differences(stack).lines() == ["node gpu-1: model asr: its copy is gone"]
    assert repair(node, double) == ["load asr"]
    assert differences(stack).lines() == []


def test_all_models_are_copied_where_the_folder_is_gone(stack: Stack, node: Node, double: Double) -> None:
    shutil.rmtree(node.root)
    found = differences(stack)
    assert found.of_node("gpu-1").copies == {"asr", "emotion"}
    assert found.without_folders == {"gpu-1"}
    repair(node, double)
    assert differences(stack).lines() == []


def test_a_new_node_has_no_difference(stack: Stack, double: Double) -> None:
    double("docker", "exit 1")
    assert differences(stack).lines() == []


def test_a_new_version_of_a_model_is_no_difference(source: Path, stack: Stack, node: Node) -> None:
    (source / "asr" / "1" / "model.py").write_text("# two\n")
    versions.cache_clear()
    assert differences(stack).lines() == []
    node.copy()
    assert differences(stack).lines() == [], "copied, and not yet in use"
    node.activate("triton")
    (source / "asr" / "1" / "model.py").write_text("# one\n")
    versions.cache_clear()
    assert differences(stack).lines() == [], "the version before is still there"


def test_a_copy_that_a_failed_update_left_is_named_and_removed(
    source: Path, stack: Stack, node: Node, double: Double
) -> None:
    (source / "asr" / "1" / "model.py").write_text("# two\n")
    versions.cache_clear()
    left = f"asr-{versions(source)['asr']}"
    node.copy()
    (source / "asr" / "1" / "model.py").write_text("# one\n")
    versions.cache_clear()
    assert differences(stack).lines() == [f"node gpu-1: {left} is left of an update that failed"]
    assert differences(stack).of_node("gpu-1").copies == set()
    assert repair(node, double) == []
    assert left not in node.store()
    assert differences(stack).lines() == []


def test_what_an_older_release_wrote_is_compared_with_the_stack(stack: Stack, node: Node) -> None:
    shutil.rmtree(node.root / ".records")
    file_of(node).write_text("# not noticed\n")
    assert differences(stack).lines() == []
    (node.repository / "asr").unlink()
    assert differences(stack).lines() == ["node gpu-1: model asr: its link is gone"]


def test_a_gateways_file_that_somebody_changed_is_named_and_written_again(stack: Stack, node: Node) -> None:
    folder = write_gateway(stack)
    with (folder / "current" / "nginx.conf").open("a") as file:
        file.write("# mine\n")
    [line] = differences(stack).lines()
    assert line == f"gateway ({HOST}): nginx.conf is not as it was written"
    write_gateway(stack)
    assert differences(stack).lines() == []


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_a_gateways_file_that_is_gone_is_named_and_written_again(stack: Stack, node: Node, what: str) -> None:
    folder = write_gateway(stack)
    if what == "folder":
        shutil.rmtree(folder)
    else:
        (folder / "current" / ("nginx.conf" if what == "file" else "")).unlink()
    assert differences(stack).lines() == [f"gateway ({HOST}): nginx.conf is gone"]
    write_gateway(stack)
    assert differences(stack).lines() == []


def test_another_configuration_in_use_is_named_unless_the_last_update_applied_it(
    source: Path, tmp_path: Path, stack: Stack, node: Node
) -> None:
    folder = write_gateway(stack)
    changed = declared(source, tmp_path, gateway={"host": HOST, "rateLimit": False})
    assert differences(changed).lines() == [], "the stack file is newer than the host"
    shutil.copytree((folder / "current").resolve(), folder / "mine")
    (folder / "current").unlink()
    (folder / "current").symlink_to("mine")
    expected = [f"gateway ({HOST}): current leads to another configuration"]
    assert differences(stack).lines() == expected
    assert differences(changed).lines() == expected
    write_gateway(stack)
    assert differences(stack).lines() == []


@pytest.fixture
def existing(source: Path, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A gateway that is a site of somebody else's nginx, which is a double."""
    # Without workers of its own, its reload would wait for those of an nginx that runs on this computer.
    monkeypatch.setattr(reload, "_BEFORE", "before=")
    (tmp_path / "conf.d").mkdir()
    return declared(source, tmp_path, gateway=in_site(tmp_path))


def in_site(tmp_path: Path) -> dict[str, str]:
    return {"mode": "existing", "host": HOST, "confDir": str(tmp_path / "conf.d"), "nginx": "true"}


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_an_existing_sites_file_that_somebody_changed_is_named_and_written_again(
    existing: Stack, tmp_path: Path, node: Node, how: str
) -> None:
    assert differences(existing).lines() == [], "the first update has not been there"
    write_gateway(existing)
    assert differences(existing).lines() == []
    [file] = (tmp_path / "conf.d").iterdir()
    file.write_text(f"{file.read_text()}# mine\n") if how == "changed" else file.unlink()
    [line] = differences(existing).lines()
    assert line.endswith("is not as it was written" if how == "changed" else "is gone")
    assert file.name in line
    write_gateway(existing)
    assert differences(existing).lines() == []


def test_an_existing_sites_file_of_the_last_update_is_no_difference(
    source: Path, existing: Stack, tmp_path: Path, node: Node
) -> None:
    write_gateway(existing)
    drained = [{"name": "gpu-1", "host": HOST, "drained": True}]
    newer = declared(source, tmp_path, gateway=in_site(tmp_path), nodes=drained)
    assert gateway_plan(newer).configuration != gateway_plan(existing).configuration
    assert differences(newer).lines() == []


def test_a_host_that_does_not_answer_is_named_and_has_no_difference(
    source: Path, tmp_path: Path, double: Double
) -> None:
    double("ssh", "echo 'ssh: connect to host gpu-1: timed out' >&2; exit 255")
    host = {"name": "gpu-1", "host": "ssh://root@gpu-1.example.com"}
    away = declared(source, tmp_path, nodes=[host])
    found = read(away, 5)
    assert found.models == {}
    assert [str(host) for host in found.unread] == ["ssh://root@gpu-1.example.com"]
    assert "timed out" in next(iter(found.unread.values()))


# What the program declares ------------------------------------------------------------------------------


def config(source: Path) -> dict[str, Any]:
    return {
        "nodes": [{"name": "gpu-1", "host": "ssh://root@192.0.2.11"}],
        "gateway": {"host": "ssh://root@192.0.2.1"},
        "models": {"source": "sync", "path": str(source)},
        "service": {"image": "registry.example.com/service:1"},
    }


def test_a_difference_is_a_variable_of_the_steps_that_repair_it_and_of_no_other(source: Path) -> None:
    versions.cache_clear()
    whole = declare(config(source))
    models = {"gpu-1": ModelDifferences(frozenset({"asr"}), ("model asr: its copy is gone",))}
    gateways = {parse_host("ssh://root@192.0.2.1"): ("nginx.conf is gone",)}
    found = declare(config(source), written=Written(models, gateways))
    other = {name for name in whole.resources if whole[name].inputs != found[name].inputs}
    assert other == {"gpu-1-model-asr", "gpu-1-models-in-use", "gateway-config"}
    for name in other:
        said = found[name].inputs["environment"]["DIFFERENCE"]
        assert said.startswith(
            "nginx.conf is gone (" if "gateway" in name else "model asr: its copy is gone ("
        )
        assert found[name].ignore_changes == ()


def test_without_a_difference_steps_keep_the_variable_that_the_state_has(source: Path) -> None:
    versions.cache_clear()
    fleet = declare(config(source))
    assert fleet["gpu-1-model-asr"].ignore_changes == ("environment",)
    assert "environment" not in fleet["gpu-1-model-asr"].inputs
    assert fleet["gateway-config"].ignore_changes == ("environment",)
    assert fleet["gpu-1-models-in-use"].ignore_changes == ("environment.DIFFERENCE",)
    assert fleet["gpu-1-models-in-use"].inputs["environment"].keys() == {"RECOVERY", "DIFFERENCE"}
