"""A preview shows what `up` does, and `up` changes only what has to change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from infra.names import ENGINE_CACHE, ENGINES_MOUNT
from tests.e2e.deployment import Site
from tests.e2e.lab.host import Host
from tests.e2e.lab.images import PROJECT
from tests.e2e.lab.load import load


def names_of(steps: dict[str, str]) -> str:
    return "\n".join(f"{op} {name}" for name, op in sorted(steps.items()))


def test_the_first_up_brings_up_a_fleet_that_serves(deployed: Site) -> None:
    assert deployed.first_up is not None
    for route, field in (("asr", "text"), ("emotion", "emotions"), ("synthesis", "score")):
        assert field in deployed.ask(route)
    for host in deployed.gpu_hosts():
        assert deployed.healthy(host)
        assert "emotions" in deployed.ask(url=f"http://{host.address}:8800")


def test_the_gateway_uses_every_node(deployed: Site) -> None:
    logs = {host.name: 0 for host in deployed.gpu_hosts()}
    for _ in range(20):
        deployed.ask()
    for host in deployed.gpu_hosts():
        logs[host.name] = metric(host.run("curl", "-s", "http://127.0.0.1:8800/metrics").stdout)
    assert all(count > 0 for count in logs.values()), logs


def metric(text: str) -> float:
    """The number of all requests in a node's metrics."""
    lines = [line for line in text.splitlines() if re.match(r"\w*requests_total\{.*emotion", line)]
    assert lines, text
    return sum(float(line.split()[-1]) for line in lines)


def test_a_second_up_changes_nothing(deployed: Site) -> None:
    again = deployed.up().check()
    assert again.steps == {}


def test_outputs_name_the_gateway_the_nodes_and_the_images(deployed: Site) -> None:
    text = str(deployed.program.outputs())
    assert deployed.url in text
    for host in deployed.gpu_hosts():
        assert f"http://{host.address}:8800" in text


def test_tritons_user_can_keep_engines_in_a_volume_of_the_node(deployed: Site) -> None:
    for host in deployed.gpu_hosts():
        triton = next(name for name in host.containers() if name.endswith("-triton"))
        kept = f"{ENGINE_CACHE}/kept"
        host.docker("exec", triton, "sh", "-c", f"mkdir -p {ENGINE_CACHE} && touch {kept}")
        assert host.docker("inspect", "--format", "{{.Config.User}}", triton).stdout.strip() == "1000:1000"
        volume = triton.removesuffix("-triton") + "-engines"
        place = host.docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume).stdout.strip()
        host.run("test", "-e", f"{place}/{PurePosixPath(kept).relative_to(ENGINES_MOUNT)}")


def test_private_ports_are_not_published(deployed: Site) -> None:
    for host in deployed.gpu_hosts():
        ports = host.docker("ps", "--format", "{{.Ports}}").stdout
        published = set(map(int, re.findall(r":(\d+)->", ports)))
        assert published == {8800, 9800}


def test_a_service_setting_touches_the_services_only(deployed: Site) -> None:
    deployed.config["service"]["maxConcurrency"] = 48
    change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert {host for host, name in change.touched if "service" in name} == {"gpu-1", "gpu-2"}
    assert all("service" in name for _, name in change.touched), change.touched


def test_changed_service_code_shows_in_preview_as_replaced_services(deployed: Site) -> None:
    code = deployed.program.project / "inference_service" / "__init__.py"
    code.write_text(code.read_text() + "\nCHANGED = True\n")
    change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    # The console runs in the service's image.
    assert change.touched_hosts == {"gpu-1", "gpu-2", "gateway"}
    assert all("service" in name or "console" in name for _, name in change.touched), change.touched
    for host in deployed.gpu_hosts():
        service = next(name for name in host.containers() if "service" in name)
        assert host.docker("exec", service, "python", "-c", "import inference_service as s; s.CHANGED")


def test_one_nodes_gpu_list_touches_that_node_only(deployed: Site) -> None:
    deployed.node("gpu-2")["gpus"] = [0]
    change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert change.touched_hosts == {"gpu-2"}
    assert all("gpu-2" in name for name in change.applied.steps), names_of(change.applied.steps)


def test_a_changed_port_moves_the_node_and_the_gateway_follows(deployed: Site) -> None:
    deployed.node("gpu-2")["ports"] = {"http": 8900}
    change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert change.touched_hosts <= {"gpu-2"}
    assert "emotions" in deployed.ask(url=f"http://{deployed.fleet.hosts['gpu-2'].address}:8900")
    before = node_count(deployed, "gpu-2", 8900)
    for _ in range(20):
        deployed.ask()
    assert node_count(deployed, "gpu-2", 8900) > before


def node_count(deployed: Site, name: str, port: int) -> float:
    return metric(deployed.fleet.hosts[name].run("curl", "-s", f"http://127.0.0.1:{port}/metrics").stdout)


def test_a_changed_model_is_copied_alone(deployed: Site) -> None:
    model = deployed.program.project / "model_repository" / "emotion" / "1" / "model.py"
    model.write_text(model.read_text() + "\n# changed\n")
    change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    changed_models = {name for name in change.applied.steps if re.search(r"asr|synthesis|emotion-text", name)}
    assert not changed_models
    for host in deployed.gpu_hosts():
        found = host.run(
            "sh", "-c", "grep -rl '^# changed$' --include=model.py / 2>/dev/null | grep emotion", check=False
        )
        assert found.stdout.strip(), "the new model is on the host"


def test_draining_a_node_touches_the_gateway_only_and_ends_its_traffic(deployed: Site) -> None:
    deployed.node("gpu-1")["drained"] = True
    with load(deployed.request, rate=20) as seen:
        change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert change.touched == set(), "no container changes"
    assert not seen.failures, seen.summary()
    before = node_count(deployed, "gpu-1", 8800)
    for _ in range(20):
        deployed.ask()
    assert node_count(deployed, "gpu-1", 8800) == before
    deployed.node("gpu-1")["drained"] = False


def test_a_gateway_setting_touches_the_gateway_only(deployed: Site) -> None:
    deployed.up().check()
    deployed.config["gateway"]["rateLimit"] = {"requestsPerSecond": 500, "burst": 200}
    with load(deployed.request, rate=20) as seen:
        change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert change.touched_hosts <= {"gateway"}
    assert all("gateway" in name for name in change.applied.steps), names_of(change.applied.steps)
    assert not seen.failures, seen.summary()


def without_third(site: Site) -> None:
    site.config["nodes"] = [node for node in site.config["nodes"] if node["name"] != "gpu-3"]


def test_an_added_node_joins_without_touching_the_others(deployed: Site, third: Host) -> None:
    without_third(deployed)
    deployed.up().check()
    deployed.config["nodes"].append({"name": "gpu-3", "host": third.url})
    with load(deployed.request, rate=20) as seen:
        change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert change.touched_hosts == {"gpu-3"}
    assert not seen.failures, seen.summary()
    before = node_count(deployed, "gpu-3", 8800)
    for _ in range(30):
        deployed.ask()
    assert node_count(deployed, "gpu-3", 8800) > before


def test_a_removed_node_leaves_nothing_running_and_no_request_behind(deployed: Site, third: Host) -> None:
    if all(node["name"] != "gpu-3" for node in deployed.config["nodes"]):
        deployed.config["nodes"].append({"name": "gpu-3", "host": third.url})
        deployed.up().check()
    without_third(deployed)
    with load(deployed.request, rate=20) as seen:
        change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert change.touched_hosts == {"gpu-3"}
    assert_empty(third)
    assert not seen.failures, seen.summary()


def test_a_node_whose_host_changes_moves_without_a_failed_request(deployed: Site, third: Host) -> None:
    before = deployed.fleet.hosts["gpu-2"]
    deployed.node("gpu-2").pop("ports", None)
    deployed.node("gpu-2")["host"] = third.url
    with load(deployed.request, rate=20) as seen:
        change = deployed.change()
    assert change.as_previewed(), names_of(change.previewed.steps) + "\n--\n" + names_of(change.applied.steps)
    assert change.touched_hosts == {"gpu-2", "gpu-3"}
    assert not seen.failures, seen.summary()
    assert deployed.healthy(third)
    assert_empty(before)


def assert_empty(host: Host) -> None:
    """Checks that the host has nothing of the stack but images."""
    assert host.containers(everything=True) == {}
    assert host.docker("volume", "ls", "--quiet").stdout == ""
    assert "e2e" not in host.docker("network", "ls", "--format", "{{.Name}}").stdout
    assert host.run("test", "!", "-e", "/opt/gpu-inference", check=False).returncode == 0, "copied models"


@pytest.fixture(autouse=True)
def first_state_before_a_repetition(request: pytest.FixtureRequest, deployed: Site) -> None:
    """A repeated test makes its change again, so it starts from the first state."""
    if getattr(request.node, "execution_count", 1) > 1:
        deployed.settle()


@pytest.fixture(scope="module", autouse=True)
def own_code_again(deployed: Site) -> Iterator[None]:
    """Reverts these tests' changes in the project's copy, so that the next tests start with the shipped
    code."""
    yield
    for part in ("inference_service/__init__.py", "model_repository/emotion/1/model.py"):
        shutil.copy2(PROJECT / part, deployed.program.project / part)
