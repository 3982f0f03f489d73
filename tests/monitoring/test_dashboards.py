"""Grafana's dashboards: Grafana itself cannot run here, so its own types and Prometheus judge them."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from infra.monitoring.dashboards import FOLDER, dashboards
from scripts.dashboards.__main__ import made
from tests.monitoring.metric_names import named
from tests.monitoring.test_monitoring import needs, promtool

pytestmark = pytest.mark.fast

NAMES = ("fleet", "gateway", "gpus", "node", "speech")


def board(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [each for each in board(name)["panels"] if each["type"] != "row"]


def expressions(name: str) -> list[str]:
    """Every expression of a dashboard, as Prometheus reads it."""
    asked = [target["expr"] for panel in panels(name) for target in panel["targets"]]
    asked += [each["expr"] for each in board(name)["annotations"]["list"] if "expr" in each]
    asked += [
        re.fullmatch(r"label_values\((.+), \w+\)", each["query"])[1]  # type: ignore[index]
        for each in board(name)["templating"]["list"]
        if each["type"] == "query"
    ]
    return [re.sub(r"\$\w+", ".*", each.replace("$__rate_interval", "5m")) for each in asked]


def test_the_files_are_those_that_the_scripts_write() -> None:
    assert dashboards() == made()
    assert sorted(dashboards()) == [f"{name}.json" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_types_read_it_and_no_panel_is_on_another(name: str) -> None:
    found = board(name)
    assert Dashboard.from_json(found).title
    assert found["uid"] == f"gpu-inference-{name}"
    cells: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        at = panel["gridPos"]
        own = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & own, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells |= own
    ids = [panel["id"] for panel in found["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", NAMES)
def test_each_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(name):
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]
        letters = [target["refId"] for target in panel["targets"] if target.get("refId")]
        assert len(letters) == len(set(letters)), panel["title"]
        if panel["type"] != "table":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@pytest.mark.parametrize("name", NAMES)
def test_each_variable_is_there_and_each_one_is_used(name: str) -> None:
    found = board(name)
    declared = {each["name"] for each in found["templating"]["list"]} - {"datasource"}
    used = set(re.findall(r'=~\\?"\$(\w+)', json.dumps(found)))
    assert used == declared


@needs("promtool")
@pytest.mark.parametrize("name", NAMES)
def test_prometheus_reads_each_expression(name: str, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{at}", "expr": expr} for at, expr in enumerate(expressions(name))]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    # Two panels may show the same.
    done = promtool("check", "rules", "--lint=none", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gpus_metrics_are_those_of_triton_and_of_the_exporter() -> None:
    # Without a GPU nothing gives them here. The names are those of Triton's documentation (metrics.md) and of
    # the DCGM exporter's default counters (default-counters.csv).
    triton = {"utilization", "memory_used_bytes", "memory_total_bytes", "power_usage", "power_limit"}
    dcgm = {"XID_ERRORS", "GPU_TEMP", "SM_CLOCK", "MEM_COPY_UTIL"}
    known = {f"nv_gpu_{each}" for each in triton} | {f"DCGM_FI_DEV_{each}" for each in dcgm}
    asked = {name for text in expressions("gpus") for name in named(text)}
    assert {each for each in asked if not each.startswith("ai_")} <= known | {"ALERTS"}
