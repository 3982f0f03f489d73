"""Debian's Prometheus, Alertmanager and node exporter as processes, with the example's configuration."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from infra.paths import PACKAGE

EXAMPLE = PACKAGE / "examples" / "monitoring"
ALERTS = EXAMPLE / "alerts.yml"
PROMETHEUS, ALERTMANAGER, HOST = "prometheus", "prometheus-alertmanager", "prometheus-node-exporter"


@contextmanager
def process(*command: str | Path) -> Iterator[None]:
    started = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        started.terminate()
        started.wait(20)


def configuration(
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    alertmanager: int | None = None,
    *,
    quick: bool = False,
) -> Path:
    """The example with these addresses and a key; `quick`: without its waits. Returns its file."""
    text = ALERTS.read_text()
    (folder / "alerts.yml").write_text(re.sub(r"for: \d+[sm]", "for: 1s", text) if quick else text)
    (folder / "api-key").write_text("a-key-of-the-test")
    made = yaml.safe_load((EXAMPLE / "prometheus.yml").read_text())
    if quick:
        made["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    if alertmanager is None:
        del made["alerting"]
    else:
        made["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
    assert {job["job_name"] for job in made["scrape_configs"]} == set(targets)
    for job in made["scrape_configs"]:
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
        if job["job_name"] == "fleet-gateway":
            job["authorization"] = {"credentials_file": "api-key"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(made))
    return folder / "prometheus.yml"
