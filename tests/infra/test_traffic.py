"""Before the first node changes, nodes that answer get traffic again."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.connection import Connection
from infra.gateway.render import Site, UpstreamServer, render_servers, render_site
from infra.node_health import NodeAddress
from infra.steps import traffic
from infra.steps.traffic import Traffic
from tests.infra.conftest import Double

HERE = Connection("unix:///nowhere.sock")
SERVERS = tuple(
    UpstreamServer(f"gpu-{n}", f"192.0.2.{10 + n}", 8800, 9800, drained=n > 1) for n in range(1, 5)
)


def live(folder: Path, text: str) -> Path:
    """The configuration behind a link, as the gateway's container reads it."""
    (folder / "revision").mkdir()
    (folder / "revision" / "nginx.conf").write_text(text)
    (folder / "revision" / "nginx.conf").chmod(0o600)
    (folder / "current").symlink_to("revision")
    return folder / "current" / "nginx.conf"


def declared(file: Path, *nodes: int) -> Traffic:
    addresses = tuple(NodeAddress(f"gpu-{n}", HERE, f"prod-gpu-{n}-service", ()) for n in nodes)
    return Traffic(gateway=HERE, file=str(file), reload=f"echo reloaded >>{file}.log", nodes=addresses)


def reloads(file: Path) -> int:
    log = Path(f"{file}.log")
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_node_that_answers_gets_traffic_and_the_others_stay_as_they_are(
    tmp_path: Path, double: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    double("docker", 'case "$*" in *gpu-3-service*) echo "model asr is not ready" >&2; exit 1;; esac')
    file = live(tmp_path, render_site(Site(servers=SERVERS)).nginx_conf)
    # gpu-4 stays drained.
    traffic.apply(declared(file, 1, 2, 3))
    back = tuple(
        UpstreamServer(each.name, each.host, 8800, 9800, drained=each.name in ("gpu-3", "gpu-4"))
        for each in SERVERS
    )
    expected = render_servers("prod", back)
    lines = [line.replace("max_fails=3 ", "") for line in expected.splitlines() if line.startswith("server")]
    text = file.read_text()
    for line in lines:
        assert line in text
    assert reloads(file) == 1
    assert file.stat().st_mode & 0o777 == 0o600, "it may name the file of the API keys"
    said = capsys.readouterr().out
    assert "gpu-2 answers and gets traffic again" in said
    assert "gpu-3 gets no traffic yet: model asr is not ready" in said


def test_the_file_of_an_existing_site_is_changed_in_the_same_way(tmp_path: Path, double: Double) -> None:
    double("docker", "exit 0")
    file = live(tmp_path, render_servers("prod", SERVERS))
    traffic.apply(declared(file, 1, 2, 3, 4))
    assert " down;" not in file.read_text()


def test_nothing_is_reloaded_where_every_node_has_traffic(tmp_path: Path, double: Double) -> None:
    calls = double("docker", "exit 0")
    file = live(tmp_path, render_site(Site(servers=SERVERS[:1])).nginx_conf)
    traffic.apply(declared(file, 1))
    assert reloads(file) == 0
    assert calls.read_text() == "", "only nodes without traffic are asked"


def test_a_gateway_without_a_configuration_is_left_alone(tmp_path: Path, double: Double) -> None:
    double("docker", "exit 0")
    traffic.apply(declared(tmp_path / "current" / "nginx.conf", 1, 2))
    assert list(tmp_path.iterdir()) == [tmp_path / "doubles"]
