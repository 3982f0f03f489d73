"""nginx accepts every rendered file, and no value can inject a directive."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from difflib import ndiff
from pathlib import Path
from typing import Any

import crossplane
import pytest

from infra.gateway import entrance
from infra.gateway.render import (
    Paths,
    RateLimit,
    Site,
    Tls,
    UpstreamServer,
    render_servers,
    render_site,
)
from infra.names import upstream_file
from infra.stack import parse
from tests.gateway import nginx

pytestmark = pytest.mark.fast

ONE = UpstreamServer("gpu-1", "192.0.2.1", 8800, 9800)
TWO = UpstreamServer("gpu-2", "2001:db8::2", 51312, 51313)
DRAINED = UpstreamServer("gpu-3", "localhost", 8800, 9800, drained=True)
KEYS = ("first-key.0123", "second+key/4567==")

SITES = {
    "one node": Site((ONE,)),
    "many nodes": Site(tuple(UpstreamServer(f"gpu-{n}", f"192.0.2.{n}", 8800, 9800) for n in range(1, 65))),
    "a drained node": Site((ONE, TWO, DRAINED)),
    "all nodes drained": Site((DRAINED,)),
    "no node": Site(()),
    "no rate limit": Site((ONE,), rate_limit=None),
    "a rate limit below one a second": Site((ONE,), rate_limit=RateLimit(0.5, 0)),
    "API keys": Site((ONE,), api_keys=KEYS),
    "nodes of different tasks": Site(
        (replace(ONE, tasks=("asr",)), replace(TWO, tasks=("emotion",), weight=3))
    ),
    "a task whose node is drained": Site(
        (replace(ONE, tasks=("asr",)), replace(DRAINED, tasks=("emotion",)))
    ),
    "a node with all tasks beside others": Site((ONE, replace(TWO, tasks=("asr",))), api_keys=KEYS),
    "different tasks at layer 4": Site((ONE, replace(TWO, tasks=("asr",))), grpc_balancing="layer4"),
    "names that are resolved again": Site(
        (ONE, UpstreamServer("gpu-4", "gpu-4.invalid", 8800, 9800)), resolver="127.0.0.1"
    ),
    "such names at layer 4": Site(
        (UpstreamServer("gpu-4", "gpu-4.invalid", 8800, 9800),), resolver="127.0.0.1", grpc_balancing="layer4"
    ),
    "layer 4": Site((ONE, DRAINED), grpc_balancing="layer4"),
    "no node at layer 4": Site((), grpc_balancing="layer4"),
}


def test_nginx_waits_for_an_answer_as_long_as_the_service_works_on_it() -> None:
    def limits(**service: Any) -> tuple[int, int, int]:
        site = entrance.site(parse({"nodes": ["ssh://root@192.0.2.10"], "service": {"config": service}}))
        return site.answer_seconds, site.recording_seconds, site.body_limit

    assert limits() == (180, 1830, 100_000_000)
    request = {"timeout": "10m", "recording_timeout": 7200, "max_body_bytes": 1000}
    assert limits(ai={"request": request}, server={"queue_timeout": 40.5}) == (661, 7261, 1000)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    request = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*request.split(), *names, *files], check=True, capture_output=True)
    return Tls(f"{folder}/cert.pem", f"{folder}/key.pem")


def servers_of(text: str, folder: Path, upstream: str) -> list[list[str]]:
    """The arguments of each `server` of an upstream, as crossplane parses them."""
    (folder / "parsed.conf").write_text(text)
    parsed = crossplane.parse(f"{folder}/parsed.conf", single=True, catch_errors=False)
    http = next(block for block in parsed["config"][0]["parsed"] if block["directive"] == "http")
    found = next(
        block for block in http["block"] if block["directive"] == "upstream" and block["args"] == [upstream]
    )
    return [line["args"] for line in found["block"] if line["directive"] == "server"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("name", SITES)
def test_nginx_accepts_the_site(name: str, tls: bool, tmp_path: Path, certificate: Tls) -> None:
    site = nginx.local(replace(SITES[name], tls=certificate if tls else None), tmp_path)
    rendered = render_site(site)
    answer = nginx.check(nginx.write(rendered, site, tmp_path))
    assert answer.returncode == 0, answer.stderr
    parsed = crossplane.parse(str(tmp_path / "nginx.conf"))
    assert parsed["status"] == "ok", parsed["errors"]


def test_paths_may_have_blanks(tmp_path: Path) -> None:
    folder = tmp_path / "my project; really"
    folder.mkdir()
    site = nginx.local(Site((ONE,), api_keys=KEYS), folder)
    answer = nginx.check(nginx.write(render_site(site), site, folder))
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("servers", [(), (ONE,), (ONE, TWO, DRAINED), (DRAINED,)])
def test_an_existing_site_takes_the_upstream_file_by_its_include(
    servers: tuple[UpstreamServer, ...], tmp_path: Path
) -> None:
    (tmp_path / upstream_file("prod")).write_text(render_servers("prod", servers))
    site = tmp_path / "nginx.conf"
    site.write_text(
        f"pid {tmp_path}/nginx.pid;\nevents {{}}\nhttp {{\n access_log off;\n"
        + "".join(f" {kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy"))
        + " upstream ai_inference_service {\n  least_conn;\n"
        + f"  include {tmp_path}/ai_inference_service.servers*.conf;\n }}\n"
        + " server { listen 127.0.0.1:8080; location / { proxy_pass http://ai_inference_service; } }\n}\n"
    )
    answer = nginx.check(site)
    assert answer.returncode == 0, answer.stderr


def test_the_upstream_file_has_one_server_a_node_and_drained_ones_down() -> None:
    lines = render_servers("prod", (ONE, TWO, DRAINED)).splitlines()
    assert lines[1:] == [
        "server 192.0.2.1:8800 max_fails=3 fail_timeout=5s; # gpu-1",
        "server [2001:db8::2]:51312 max_fails=3 fail_timeout=5s; # gpu-2",
        "server localhost:8800 max_fails=3 fail_timeout=5s down; # gpu-3",
    ]


def test_a_drained_node_is_down_in_every_upstream(tmp_path: Path) -> None:
    conf = render_site(Site((ONE, DRAINED))).nginx_conf
    for upstream in ("ai_inference_service", "ai_inference_service_any", "ai_inference_grpc"):
        first, second, *backups = servers_of(conf, tmp_path, upstream)
        assert "down" not in first
        assert "down" in second
        assert all(backup[0] == first[0] for backup in backups)


def test_the_weight_of_a_node_is_in_every_upstream() -> None:
    text = render_site(Site((replace(ONE, weight=3), TWO))).nginx_conf
    lines = [line for line in text.splitlines() if "server 192.0.2.1:" in line]
    assert len(lines) == 4
    assert all(" weight=3 " in line for line in lines)
    assert "weight=3" in render_servers("prod", (replace(ONE, weight=3),))
    with pytest.raises(ValueError, match="weight: expected 1 to 100, got 0"):
        replace(ONE, weight=0)


def test_without_different_tasks_there_is_one_pool_of_nodes() -> None:
    text = render_site(Site((ONE, TWO))).nginx_conf
    assert "$ai_pool" not in text
    assert text.count("upstream ai_") == 3


def test_rendering_is_stable_and_draining_a_node_changes_only_its_lines() -> None:
    before = render_site(Site((ONE, TWO))).nginx_conf
    assert before == render_site(Site((ONE, TWO))).nginx_conf
    after = render_site(Site((ONE, replace(TWO, drained=True)))).nginx_conf
    changed = [line for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert changed
    assert all(line.endswith("# gpu-2") for line in changed)


def test_api_keys_are_in_their_own_file_and_nowhere_else() -> None:
    rendered = render_site(Site((ONE,), api_keys=KEYS))
    assert rendered.api_keys is not None
    assert all(key not in rendered.nginx_conf for key in KEYS)
    assert all(key not in repr(rendered) for key in KEYS)
    assert "0123" in rendered.api_keys


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: replace(ONE, host="a.example.com; deny all"), "host"),
        (lambda: replace(ONE, host="unix:/tmp/x"), "host"),
        (lambda: replace(ONE, host="fe80::1%eth0"), "host"),
        (lambda: replace(ONE, host=""), "host"),
        (lambda: replace(ONE, name="gpu-1\nserver evil"), "name"),
        (lambda: replace(ONE, http_port=0), "http_port"),
        (lambda: replace(ONE, grpc_port=70000), "grpc_port"),
        (lambda: Tls('/a/b"; deny all; "', "/c"), "tls.certificate"),
        (lambda: Paths(temp="/tmp/$uri"), "paths.temp"),
        (lambda: Site(bind="0.0.0.0;"), "bind"),
        (lambda: Site(user="nobody; include /etc/passwd"), "user"),
        (lambda: Site(load_modules=("x.so",)), "load_modules"),
        (lambda: Site(http=9080), "grpc"),
        (lambda: Site((ONE, replace(TWO, name="gpu-1"))), "name gpu-1"),
        (lambda: Site((ONE, replace(ONE, name="gpu-2"))), "http_address 192.0.2.1:8800"),
        (lambda: RateLimit(0), "rate_limit.per_second"),
        (lambda: RateLimit(10, -1), "rate_limit.burst"),
        (lambda: render_servers("a/../b", ()), "stack"),
        (lambda: upstream_file("../x"), "stack"),
    ],
)
def test_what_could_change_the_configuration_is_refused_by_name(make: object, named: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=named):
        make()


def test_a_bad_api_key_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match=r"api_keys\[1\]") as refusal:
        Site(api_keys=("good-key-1", 'secret" 1; default'))
    assert "secret" not in str(refusal.value)
