"""The scrape configuration and alerts of examples/monitoring, in Debian's Prometheus and Alertmanager."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import yaml

from inference_service.console.gateway_metrics import GatewayMetrics, parse
from inference_service.console.settings import ConsoleSettings, WatchedNode
from infra.gateway.render import Site
from infra.paths import PACKAGE
from tests.gateway import nginx
from tests.gateway.service_node import service_nodes
from tests.monitoring.metric_names import named, of_dashboards
from tests.monitoring.processes import (
    ALERTMANAGER,
    ALERTS,
    EXAMPLE,
    HOST,
    PROMETHEUS,
    configuration,
    process,
)
from tests.monitoring.receiver import webhook
from tests.ports import free_port, free_ports

SECONDS = 60


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is missing: tests/install.sh installs it"
    )


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


# The line of nginx ----------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize(
    ("line", "entrance", "status", "upstream", "retries", "failed"),
    [
        ("200 0.200 /v1/models -- 192.0.2.1:8800", "http", "200", "192.0.2.1:8800", 0, False),
        ("503 0.200 /v1/a -- 192.0.2.1:8800, 192.0.2.2:8800", "http", "503", "192.0.2.2:8800", 1, True),
        ("200 0.1 /grpc.AIService/X 14- [::1]:1 : [::1]:2", "grpc", "UNAVAILABLE", "[::1]:2", 1, True),
        ("200 0.1 /grpc.AIService/X -99 [::1]:1", "grpc", "UNKNOWN", "[::1]:1", 0, True),
        ("200 0.1 /grpc.AIService/X 0- [::1]:1", "grpc", "OK", "[::1]:1", 0, False),
        ("101 60.0 /v1/realtime -- 192.0.2.1:8800", "websocket", "101", "192.0.2.1:8800", 0, False),
        ("429 0.000 /v1/a -- -", "http", "429", "", 0, False),
        ("200 0.200 /v1/a", "http", "200", "", 0, False),
    ],
)
def test_a_line_tells_who_answered_and_how(
    line: str, entrance: str, status: str, upstream: str, retries: int, failed: bool
) -> None:
    request = parse(f"<190>Nov 27 12:00:00 fleet: {line}".encode())
    assert request is not None
    assert (request.entrance, request.status, request.upstream) == (entrance, status, upstream)
    assert (request.retries, request.failed) == (retries, failed)


@pytest.mark.fast
@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/console/api/fleet", "/api/v1/ai/health"])
def test_probes_and_pages_are_no_requests(path: str) -> None:
    assert parse(f"fleet: 200 0.001 {path} -- 192.0.2.1:8800".encode()) is None


@pytest.mark.fast
def test_streams_have_no_time() -> None:
    metrics = GatewayMetrics()
    for path in ("/grpc.AIService/StreamAudioProcessing", "/grpc.AIService/ProcessAudioData"):
        request = parse(f"fleet: 200 0.100 {path} 0- 192.0.2.1:9800".encode())
        assert request is not None
        metrics.count(request)
    text = metrics.render([]).decode()
    assert 'ai_gateway_request_seconds_count{entrance="grpc"} 1.0' in text
    assert 'ai_gateway_requests_total{entrance="grpc",status="OK",upstream="192.0.2.1:9800"} 2.0' in text


# The example ----------------------------------------------------------------------------------------------


@needs("promtool")
@pytest.mark.fast
def test_promtool_accepts_the_configuration_and_the_alerts() -> None:
    for command in (("check", "config", EXAMPLE / "prometheus.yml"), ("check", "rules", ALERTS)):
        done = promtool(*command)
        assert done.returncode == 0, done.stdout + done.stderr


@needs("promtool")
@pytest.mark.fast
def test_each_alert_fires_when_it_should_and_on_a_healthy_fleet_none(tmp_path: Path) -> None:
    text = Path(__file__).with_name("alerts_test.yml").read_text()
    (tmp_path / "test.yml").write_text(text.replace("rule_files: [ALERTS]", f"rule_files: [{ALERTS}]"))
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    for rule in rules():
        assert f"alertname: {rule['alert']}}}" in text, (
            f"{rule['alert']} is not among those of a healthy fleet"
        )
        assert f'alertname="{rule["alert"]}"' in text, f"no case in which {rule['alert']} fires"


@pytest.mark.fast
def test_the_document_has_each_alert() -> None:
    told = re.findall(r"^\| `(Fleet\w+)` \|", (PACKAGE / "docs" / "monitoring.md").read_text(), re.M)
    assert told == [rule["alert"] for rule in rules()]


# The whole chain ------------------------------------------------------------------------------------------


def until(what: Callable[[], object], told: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            if what():
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {SECONDS} s: {told()}")


@needs(PROMETHEUS)
@needs(ALERTMANAGER)
@needs(HOST)
def test_a_killed_node_raises_its_alert_and_a_drained_one_ends_it(tmp_path: Path) -> None:
    prometheus, alertmanager, exporter = free_ports(3)
    with ExitStack() as stack:
        nodes = stack.enter_context(service_nodes(2, tmp_path))
        declared = Site(
            tuple(node.upstream for node in nodes), http=free_port(), grpc=free_port(), console=True
        )
        site = stack.enter_context(nginx.running(declared, tmp_path))
        watched = [WatchedNode(node.upstream.name, f"http://{node.upstream.http_address}") for node in nodes]
        settings = ConsoleSettings(
            stack="test",
            nodes=tuple(watched),
            gateway=f"http://127.0.0.1:{site.http}",
            probe=f"http://127.0.0.1:{site.http}",
            socket=site.paths.console,
            log_socket=site.paths.console_log,
            api_keys=("a-key-of-the-test",),
        )
        file = tmp_path / "console.json"
        file.write_bytes(msgspec.json.encode(settings))
        stack.enter_context(process(sys.executable, "-m", "inference_service.console", file))

        address, came = stack.enter_context(webhook())
        (tmp_path / "alertmanager.yml").write_text(
            "route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}\n"
            f"receivers: [{{name: hook, webhook_configs: [{{url: '{address}'}}]}}]\n"
        )
        stack.enter_context(
            process(
                ALERTMANAGER,
                f"--config.file={tmp_path}/alertmanager.yml",
                f"--storage.path={tmp_path}/alertmanager",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            )
        )
        stack.enter_context(process(HOST, f"--web.listen-address=127.0.0.1:{exporter}"))
        targets = {
            "fleet-gateway": [f"127.0.0.1:{site.http}"],
            "fleet-node": [node.upstream.http_address for node in nodes],
            "fleet-host": [f"127.0.0.1:{exporter}"],
        }
        stack.enter_context(
            process(
                PROMETHEUS,
                f"--config.file={configuration(tmp_path, targets, alertmanager, quick=True)}",
                f"--storage.tsdb.path={tmp_path}/prometheus",
                f"--web.listen-address=127.0.0.1:{prometheus}",
            )
        )
        client = stack.enter_context(httpx2.Client(trust_env=False))

        def query(text: str) -> list[dict[str, object]]:
            answer = client.get(f"http://127.0.0.1:{prometheus}/api/v1/query", params={"query": text})
            # 503 while Prometheus starts.
            return list(answer.json()["data"]["result"]) if answer.status_code == 200 else []

        until(lambda: len(query("up == 1")) == 4, lambda: query("up"))
        until(
            lambda: len(query("ai_gateway_node_healthy == 1")) == 2, lambda: query("ai_gateway_node_healthy")
        )
        assert client.get(f"http://127.0.0.1:{site.http}/metrics").status_code == 401
        key = {"Authorization": "Bearer a-key-of-the-test"}
        body = {"audio_data": "AAAA", "format": "pcm"}

        def served() -> list[dict[str, object]]:
            answer = client.post(f"http://127.0.0.1:{site.http}/api/v1/ai/asr", json=body, headers=key)
            assert answer.status_code < 500, answer.text
            return query("ai_gateway_requests_total > 0")

        until(served, lambda: query("ai_gateway_requests_total"))
        # A rule on a name that does not exist never fires, and a panel stays empty. Triton's own metrics are
        # asked of a real Triton in tests/embedded; nv_gpu_* are only where it has a GPU.
        described = client.get(f"http://127.0.0.1:{prometheus}/api/v1/targets/metadata").json()["data"]
        known = {each["metric"] for each in described} | {"ai_runtime_metrics_up"}
        asked = {name for rule in rules() for name in named(rule["expr"])}
        asked |= of_dashboards("ai_") | of_dashboards("node_")
        for name in sorted(each for each in asked if each.startswith(("ai_", "node_"))):
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            assert {name, family} & known, f"no endpoint has the metric {name} of a rule or a panel"
        for text in (
            'node_filesystem_avail_bytes{fstype!="", mountpoint!="", device!=""}',
            'node_cpu_seconds_total{mode="idle", cpu!=""}',
        ):
            assert query(text), f"the node exporter has other labels than {text}"
        assert not query('ALERTS{alertname!="FleetDiskFull", alertname!="FleetClock"}')

        nodes[0].kill()
        until(lambda: ("firing", "FleetNodeDown", "gpu-1") in came, lambda: came)
        assert ("firing", "FleetNodeDown", "gpu-2") not in came
        assert "FleetNoNode" not in {name for _, name, _ in came}
        drained = msgspec.structs.replace(watched[0], state="drained")
        file.write_bytes(msgspec.json.encode(msgspec.structs.replace(settings, nodes=(drained, watched[1]))))
        until(lambda: ("resolved", "FleetNodeDown", "gpu-1") in came, lambda: came)
