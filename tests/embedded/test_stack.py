"""The embedded stack end to end: the answers to clients of the gateway, and the effect of a change or a
crash."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import jiwer
from msgspec import structs

from infra.embedded import demonstration
from infra.paths import PROJECT
from tests.embedded.conftest import Running, with_site
from tests.monitoring.metric_names import of_dashboards

RECORDING = PROJECT / "recordings" / "inaugural-1961.flac"
_WORDS = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)
_RECOVERY_SECONDS = 30


def pcm(seconds: float) -> bytes:
    """Quiet 16 kHz PCM."""
    return b"\1\0" * int(16000 * seconds)


@contextmanager
def load(url: str) -> Iterator[list[int]]:
    """Two clients that send emotion requests continuously. Yields the statuses of their answers (0: no
    answer)."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=url, timeout=30) as client:
            while not stop.is_set():
                try:
                    answer = client.post(
                        "/api/v1/ai/emotion",
                        params={"format": "pcm", "sample_rate": 16000},
                        headers={"Content-Type": "application/octet-stream"},
                        content=pcm(0.5),
                    )
                    statuses.append(answer.status_code)
                except httpx2.HTTPError:
                    statuses.append(0)
                stop.wait(0.02)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def health(url: str) -> int:
    """The status of a node's health route; 0 if there is no answer."""
    try:
        return httpx2.get(f"{url}/api/v1/ai/health", timeout=2).status_code
    except httpx2.HTTPError:
        return 0


def wait_for_health(healthy: bool, url: str) -> None:
    """Waits until the node's health is (not) 200."""
    begin = time.monotonic()
    while (health(url) == 200) is not healthy:
        assert time.monotonic() - begin < _RECOVERY_SECONDS, f"{url} does not become healthy={healthy}"
        time.sleep(0.05)


def test_the_gateway_answers_what_was_said_in_a_real_recording(running: Running) -> None:
    heard = demonstration.send(RECORDING, running.fleet.gateway.url)
    reference = RECORDING.with_suffix(".txt").read_text()
    error_rate = jiwer.wer(
        reference, heard.data["asr"]["text"], reference_transform=_WORDS, hypothesis_transform=_WORDS
    )
    assert error_rate <= 0.08
    assert heard.data["asr"]["language"] == "en"
    assert heard.data["synthesis"]["is_synthetic"] is False
    assert heard.data["emotion"]["emotion"] in heard.data["emotion"]["emotions"]
    assert heard.data["asr"]["text"] in str(heard)


def test_both_nodes_serve(running: Running) -> None:
    with load(running.fleet.gateway.url) as statuses:
        time.sleep(1)
    assert statuses
    assert set(statuses) == {200}
    log = running.layout.log("gateway-access").read_text()
    for node in running.fleet.nodes:
        assert f'"upstream":"127.0.0.1:{node.http}"' in log


def test_one_page_of_a_node_has_the_metrics_of_its_service_and_of_its_triton(running: Running) -> None:
    page = httpx2.get(f"{running.fleet.nodes[0].url}/metrics", timeout=10).text
    assert "\nai_runtime_metrics_up 1\n" in page
    assert re.search(r'^nv_inference_exec_count\{model="emotion",version="1"\} [1-9]', page, re.MULTILINE)
    assert "\nai_ready 1.0\n" in page
    assert of_dashboards("nv_inference_") <= set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))


def test_up_again_changes_nothing(running: Running) -> None:
    before = running.pids()
    assert running.up() == []
    assert running.pids() == before


def test_a_changed_setting_of_a_service_restarts_that_service_only(running: Running) -> None:
    before = running.pids()
    first, second = running.fleet.nodes
    changed = structs.replace(second, environment={"SERVER__LOG_LEVEL": "warning"})
    with load(running.fleet.gateway.url) as statuses:
        assert running.up(nodes=(first, changed)) == ["dev-2-service restarted"]
    assert set(statuses) == {200}
    after = running.pids()
    assert {name for name in before if before[name] != after[name]} == {"dev-2-service"}


def test_draining_a_node_reloads_the_gateway_only(running: Running) -> None:
    before = running.pids()
    gateway = running.fleet.gateway
    first, second = gateway.site.servers
    drained = type(first)(first.name, first.host, first.http_port, first.grpc_port, drained=True)
    with load(gateway.url) as statuses:
        done = running.up(gateway=with_site(gateway, servers=(drained, second)))
        assert done == ["gateway reloaded"]
        time.sleep(0.5)
        access_log = running.layout.log("gateway-access")
        end = access_log.stat().st_size
        time.sleep(0.5)
    assert f"127.0.0.1:{first.http_port}" not in access_log.read_text()[end:]
    assert set(statuses) == {200}
    assert running.pids() == before
    assert running.up(gateway=gateway) == ["gateway reloaded"]


def test_a_node_that_returns_serves_before_the_other_changes(running: Running) -> None:
    gateway = running.fleet.gateway
    first, second = gateway.site.servers
    drained = type(second)(second.name, second.host, second.http_port, second.grpc_port, drained=True)
    running.up(gateway=with_site(gateway, servers=(first, drained)))
    node, other = running.fleet.nodes
    changed = structs.replace(node, environment={"SERVER__LOG_LEVEL": "error"})
    with load(gateway.url) as statuses:
        done = running.up(gateway=gateway, nodes=(changed, other))
        time.sleep(0.5)
    assert "dev-1-service restarted" in done
    assert statuses
    assert set(statuses) == {200}


def test_a_killed_service_is_restarted_and_no_client_notices(running: Running) -> None:
    node = running.fleet.nodes[0]
    pid = running.pids()["dev-1-service"]
    with load(running.fleet.gateway.url) as statuses:
        time.sleep(0.5)
        os.killpg(pid, signal.SIGKILL)
        wait_for_health(False, node.url)
        wait_for_health(True, node.url)
        time.sleep(0.5)
    assert set(statuses) == {200}
    assert running.pids()["dev-1-service"] != pid


def test_a_killed_triton_is_reported_by_the_nodes_health_and_no_client_notices(running: Running) -> None:
    node = running.fleet.nodes[1]
    pid = running.pids()["dev-2-triton"]
    leftovers = Path(json.loads((running.layout.programs / "dev-2-triton.json").read_text())["leftovers"])

    def shared_memory() -> set[Path]:
        return set(leftovers.parent.glob(f"{leftovers.name}*"))

    before = shared_memory()
    assert before
    with load(running.fleet.gateway.url) as statuses:
        time.sleep(0.5)
        os.killpg(pid, signal.SIGKILL)
        wait_for_health(False, node.url)
        wait_for_health(True, node.url)
        time.sleep(0.5)
    assert set(statuses) == {200}
    assert len(shared_memory()) == len(before)
    assert shared_memory().isdisjoint(before)


def test_grpc_through_the_gateway_reaches_a_node(running: Running) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{running.fleet.gateway.site.grpc}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        # A node that another test killed may have told its HTTP health first.
        begin = time.monotonic()
        while (
            stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status
            != health_pb2.HealthCheckResponse.SERVING
        ):
            assert time.monotonic() - begin < _RECOVERY_SECONDS, "no node behind the gateway is SERVING"
            time.sleep(0.1)


def test_a_node_that_is_not_declared_any_more_is_removed_alone(running: Running) -> None:
    nodes, gateway = running.fleet.nodes, running.fleet.gateway
    before = running.pids()
    with load(gateway.url) as statuses:
        done = running.up(nodes=nodes[:1], gateway=with_site(gateway, servers=gateway.site.servers[:1]))
        assert done == ["gateway reloaded", "dev-2-service removed", "dev-2-triton removed"]
    assert set(statuses) == {200}
    kept = {name: pid for name, pid in before.items() if not name.startswith("dev-2")}
    assert running.pids() == kept


def test_every_log_is_in_the_one_folder(running: Running) -> None:
    logs = {path.name for path in Path(running.layout.logs).iterdir()}
    assert {"dev-1-service.log", "dev-1-triton.log", "gateway.log", "gateway-access.log"} <= logs
