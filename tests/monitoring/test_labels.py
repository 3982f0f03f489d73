"""The labels in expressions of alerts and panels: a matcher on a label that a metric lacks finds nothing."""

from __future__ import annotations

import re

import pytest

from infra.paths import PACKAGE
from tests.monitoring.metric_names import named
from tests.monitoring.test_dashboards import NAMES, board, panels
from tests.monitoring.test_monitoring import rules

pytestmark = pytest.mark.fast

#: What Prometheus and the targets add.
TARGET = {"stack", "instance", "job"}
#: Labels that others document: Triton (metrics.md), the DCGM exporter (README). test_monitoring.py asks a
#: real node exporter for its own.
OTHERS = {
    "nv_inference_": {"model", "version", "node"},
    "nv_gpu_": {"gpu_uuid", "node"},
    "DCGM_": {"gpu", "UUID", "modelName", "Hostname"},
    "node_cpu_": {"mode", "cpu"},
    "node_filesystem_": {"fstype", "mountpoint", "device"},
    "node_": set(),
    "up": {"node"},
    "ALERTS": {"alertname", "alertstate", "severity", "node"},
}


def documented() -> dict[str, set[str]]:
    """The labels of each of the project's metrics, in the reference that is made from the code."""
    page = (PACKAGE / "docs" / "reference" / "metrics.md").read_text()
    return {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(ai_\w+)` \| \w+ \|([^|]*)\|", page, re.M)
    }


def labels_of(metric: str) -> set[str]:
    known = documented()
    family = metric if metric in known else re.sub(r"_(bucket|count|sum)$", "", metric)
    if family in known:
        place = set() if family.startswith("ai_gateway_") else {"node"}
        return known[family] | TARGET | place | ({"le"} if metric.endswith("_bucket") else set())
    return TARGET | next(labels for prefix, labels in OTHERS.items() if metric.startswith(prefix))


def wrong(expression: str) -> list[str]:
    """The labels that an expression names and its metrics do not have."""
    found = []
    for metric, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))
        found += [f"{metric}{{{label}}}" for label in sorted(asked - labels_of(metric))]
    for kept in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        for label in re.findall(r"\w+", kept):
            found += [
                f"{name} by {label}" for name in sorted(named(expression)) if label not in labels_of(name)
            ]
    return found


def of_the_result(expression: str) -> set[str]:
    kept = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    if kept:
        return {label for each in kept for label in re.findall(r"\w+", each)}
    return {label for name in named(expression) for label in labels_of(name)}


@pytest.mark.parametrize("name", NAMES)
def test_each_label_of_a_panel_is_one_of_its_metrics(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            assert not wrong(target["expr"]), panel["title"]
            shown = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            assert shown <= of_the_result(target["expr"]), panel["title"]


def test_each_label_of_an_alert_is_one_of_its_metrics() -> None:
    for rule in rules():
        assert not wrong(rule["expr"]), rule["alert"]
        told = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", told)) <= of_the_result(rule["expr"]), rule["alert"]


@pytest.mark.parametrize("name", NAMES)
def test_each_query_follows_the_variables_of_its_dashboard(name: str) -> None:
    declared = {each["name"] for each in board(name)["templating"]["list"]} - {"datasource"}
    for panel in panels(name):
        for target in panel["targets"]:
            for metric, matchers in re.findall(r"(\w+)\{([^}]*)\}", target["expr"]):
                if metric == "ALERTS":
                    # Not every alert has the label of a stack.
                    continue
                needed = {"stack"} & declared
                needed |= {"gateway"} & declared if metric.startswith(("ai_gateway_", "up")) else set()
                needed |= {"host"} & declared if metric.startswith("node_") else set()
                if metric.startswith(("ai_", "nv_")) and not metric.startswith("ai_gateway_"):
                    needed |= {"node"} & declared
                assert {f"${each}" for each in needed} <= set(re.findall(r"\$\w+", matchers)), panel["title"]


def test_each_alert_tells_a_figure_and_the_command_that_helps() -> None:
    for rule in rules():
        told = rule["annotations"]
        assert "`fleet doctor" in told["description"], rule["alert"]
        # Those that compare with 0 have no other figure than how long it lasts.
        yes_or_no = re.search(r"== 0\b", rule["expr"])
        assert yes_or_no or "$value" in told["summary"], rule["alert"]
