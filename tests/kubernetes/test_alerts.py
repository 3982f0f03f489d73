"""A stack's alerts in its cluster: those of hosts, about its own pods. promtool judges when one fires."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.kubernetes.objects import objects
from infra.monitoring.rules import alerts
from infra.paths import PACKAGE
from tests.kubernetes.stacks import KEDA, KEYS, OWN, STACKS, stack
from tests.monitoring.test_monitoring import needs, promtool

pytestmark = pytest.mark.fast

Manifest = dict[str, Any]
OPERATOR = {"kubernetes": {"monitoring": {"by": "operator"}}}
CASES = PACKAGE / "tests" / "monitoring" / "alerts_test.yml"
#: They are about machines, which a cluster watches by itself.
OF_MACHINES = {"FleetDiskFull", "FleetClock"}
#: They are about what the gateway tells.
OF_GATEWAYS = {
    "FleetGatewayDown",
    "FleetNodeDown",
    "FleetNoNode",
    "FleetErrors",
    "FleetSlow",
    "FleetCertificate",
}
#: Gateways that Prometheus cannot read.
UNREAD = [
    {**OWN, "gateway": {"console": {"enabled": False}}},
    {**OWN, "gateway": {"proxyProtocol": True, "trustedProxies": ["192.0.2.0/24"]}},
]


def declared(config: dict[str, Any], kind: str) -> dict[str, Manifest]:
    """The objects of a kind by name."""
    found = _objects(json.dumps(config))
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


@functools.cache
def _objects(config: str) -> list[Manifest]:
    return objects(stack(json.loads(config)))


def groups(config: dict[str, Any]) -> list[Manifest]:
    [rule] = declared(config, "PrometheusRule").values()
    return list(rule["spec"]["groups"])


def rules(config: dict[str, Any]) -> dict[str, Manifest]:
    return {rule["alert"]: rule for group in groups(config) for rule in group["rules"]}


def of_hosts() -> dict[str, Manifest]:
    return {rule["alert"]: rule for group in yaml.safe_load(alerts())["groups"] for rule in group["rules"]}


def write(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups(config)}))
    return folder / "rules.yml"


def judged(folder: Path, config: dict[str, Any], series: dict[str, str], firing: dict[str, int]) -> None:
    """promtool says that just these alerts fire, so often each, 20 minutes after the series began."""
    write(folder, config)
    samples = [{"labels": f'{{alertname="{name}"}}', "value": count} for name, count in firing.items()]
    asked = {"expr": 'count(ALERTS{alertstate="firing"}) by (alertname)', "eval_time": "20m"}
    case = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{**asked, "exp_samples": samples}],
    }
    (folder / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [case]})
    )
    done = promtool("test", "rules", folder / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def series(case: str, name: str) -> dict[str, str]:
    """The series of a case of the rules on hosts, as those of the stack of that name."""
    [found] = [each for each in yaml.safe_load(CASES.read_text())["tests"] if each["name"] == case]
    return {
        each["series"].replace("{", f'{{stack="{name}", ', 1): each["values"]
        for each in found["input_series"]
    }


WELL, ILL = "a healthy fleet under load", "everything is wrong"


@needs("promtool")
def test_promtool_accepts_the_rules_of_each_stack(tmp_path: Path) -> None:
    files = []
    for number, config in enumerate(STACKS.values()):
        cluster = {**config.get("kubernetes", {}), **OPERATOR["kubernetes"]}
        (tmp_path / str(number)).mkdir()
        files.append(write(tmp_path / str(number), {**config, "kubernetes": cluster}))
    done = promtool("check", "rules", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(STACKS)


@needs("promtool")
def test_each_alert_fires_when_it_should_for_its_own_stack_alone(tmp_path: Path) -> None:
    config = {**OWN, **OPERATOR}
    judged(tmp_path, config, series(WELL, "prod"), {})
    firing = dict.fromkeys(rules(config), 1) | {"FleetCertificate": 2}
    judged(tmp_path, config, series(ILL, "prod"), firing)
    judged(tmp_path, config, series(WELL, "prod") | series(ILL, "other"), {})


@needs("promtool")
@pytest.mark.parametrize(
    ("pods", "firing"),
    [
        ({"new": "1x80", "leaving": "0x80"}, {}),
        ({"new": "0x80", "leaving": "0x80"}, {"FleetGatewayDown": 1}),
        ({}, {"FleetGatewayDown": 1}),
    ],
)
def test_the_gateway_is_down_when_prometheus_reads_none_of_its_pods(
    pods: dict[str, str], firing: dict[str, int], tmp_path: Path
) -> None:
    given = {
        f'up{{stack="prod", job="fleet-gateway", instance="{pod}"}}': values for pod, values in pods.items()
    }
    judged(tmp_path, {**OWN, **OPERATOR}, given, firing)


@needs("promtool")
def test_a_pool_that_may_sleep_raises_no_alert_while_it_has_no_pods(tmp_path: Path) -> None:
    config = {**OWN, **OPERATOR, "nodes": [{"name": "speech"}, {"name": "voice", "autoscale": KEDA}]}
    up = {'up{stack="prod", job="fleet-gateway", instance="g"}': "1x80"}

    def healthy(**pools: str) -> dict[str, str]:
        of = 'ai_gateway_node_healthy{{stack="prod", state="serving", instance="g", node="{}"}}'
        return up | {of.format(pool): values for pool, values in pools.items()}

    judged(tmp_path, config, healthy(speech="1x80", voice="0x80"), {})
    judged(tmp_path, config, healthy(speech="0x80", voice="1x80"), {"FleetNodeDown": 1})
    judged(tmp_path, config, healthy(speech="0x80", voice="0x80"), {"FleetNodeDown": 1, "FleetNoNode": 1})
    config["nodes"] = [{"name": "voice", "autoscale": KEDA}]
    judged(tmp_path, config, healthy(voice="0x80"), {})


def test_the_alerts_are_those_of_hosts_without_those_of_machines() -> None:
    found = rules({**OWN, **OPERATOR})
    assert found.keys() == of_hosts().keys() - OF_MACHINES
    changed = {
        name
        for name, rule in found.items()
        if {key: rule[key] for key in ("annotations", "for") if key in rule}
        != {key: of_hosts()[name][key] for key in ("annotations", "for") if key in of_hosts()[name]}
    }
    assert changed == {"FleetGatewayDown", "FleetNodeUnread"}
    assert all(rule["labels"].keys() == {"severity", "namespace"} for rule in found.values())


def test_a_pod_that_ends_has_its_time_before_prometheus_misses_it() -> None:
    slow = {"service": {"shutdownGraceSeconds": 600}, "images": OWN["images"]}
    for config in ({**OWN, **OPERATOR}, {**slow, **OPERATOR}):
        [pod, *_] = [each for each in objects(stack(config)) if each["kind"] == "Deployment"]
        grace = pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert rules(config)["FleetNodeUnread"]["for"] == f"{grace}s"


@pytest.mark.parametrize("config", UNREAD)
def test_a_gateway_that_prometheus_cannot_read_raises_no_alert(config: dict[str, Any]) -> None:
    assert rules({**KEYS, **config, **OPERATOR}).keys() == of_hosts().keys() - OF_MACHINES - OF_GATEWAYS
