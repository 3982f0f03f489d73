"""Loads the stack of `make up` with real recordings, and fails when an alert fires meanwhile.

make up && python -m tests.monitoring.soak --minutes 15
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2

from infra.paths import PROJECT
from tests.e2e.lab.load import load
from tests.monitoring.processes import HOST, PROMETHEUS, configuration, process
from tests.ports import free_ports

GATEWAY, NODES = "127.0.0.1:8080", ("127.0.0.1:8800", "127.0.0.1:8810")
#: Whether this computer's clock is set and its disk has room is not the stack's doing.
OF_THE_COMPUTER = ("FleetClock", "FleetDiskFull")
#: Requests a second: short ones, and whole recordings.
SHORT, LONG = 4.0, 0.1


def request(route: str) -> httpx2.Request:
    recording = (PROJECT / "recordings" / "inaugural-1961.flac").read_bytes()
    url = f"http://{GATEWAY}/api/v1/ai/{route}"
    return httpx2.Request("POST", url, content=recording, headers={"Content-Type": "audio/flac"})


def asked(prometheus: int, query: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{prometheus}/api/v1/query"
    answer = httpx2.get(url, params={"query": query}).raise_for_status()
    return list(answer.json()["data"]["result"])


def fired(prometheus: int) -> list[str]:
    """The alerts that have fired since the start."""
    others = f'alertname!~"{"|".join(OF_THE_COMPUTER)}", alertstate="firing"'
    found = asked(prometheus, f"max_over_time(ALERTS{{{others}}}[1h])")
    return sorted({each["metric"]["alertname"] for each in found})


def soak(minutes: float, folder: Path) -> int:
    """Returns the exit status."""
    prometheus, exporter = free_ports(2)
    targets = {
        "fleet-gateway": [GATEWAY],
        "fleet-node": list(NODES),
        "fleet-host": [f"127.0.0.1:{exporter}"],
    }
    file = configuration(folder, targets)
    with ExitStack() as stack:
        stack.enter_context(process(HOST, f"--web.listen-address=127.0.0.1:{exporter}"))
        stack.enter_context(
            process(
                PROMETHEUS,
                f"--config.file={file}",
                f"--storage.tsdb.path={folder}/prometheus",
                f"--web.listen-address=127.0.0.1:{prometheus}",
            )
        )
        short = stack.enter_context(load(lambda: request("emotion"), rate=SHORT))
        long = stack.enter_context(load(lambda: request("asr"), rate=LONG))
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            time.sleep(min(30, minutes * 20))
            left = max(0.0, end - time.monotonic())
            print(f"{left:.0f} s left, fired: {', '.join(fired(prometheus)) or 'none'}", flush=True)
        found = fired(prometheus)
        read = asked(prometheus, "sum(up)")[0]["value"][1]
    print(short.summary(), long.summary(), sep="\n")
    print(f"targets that were read: {read} of {sum(map(len, targets.values()))}")
    print(f"alerts in {minutes:g} minutes: {', '.join(found) or 'none'}")
    unread = int(read) < sum(map(len, targets.values()))
    return 1 if found or unread or short.failures or long.failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.monitoring.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return soak(given.minutes, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
