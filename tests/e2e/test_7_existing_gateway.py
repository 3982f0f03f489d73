"""`existing` mode: an nginx that somebody else runs keeps its site; only the upstream file is ours, and only
for a time."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.deployment import STACK, Site
from tests.e2e.lab.host import wait_until
from tests.e2e.lab.load import load

SITE = """\
user nobody nogroup;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {}
http {
    access_log off;
    upstream ai_inference_service {
        include /etc/nginx/conf.d/ai_inference_service.servers*.conf;
    }
    server {
        listen 8080;
        location / { return 200 "somebody else's site"; }
        location /api/v1/ai/ { proxy_pass http://ai_inference_service; }
    }
}
"""
# What the site includes under the name that the stack's file has; somebody wrote it before there was a stack.
SERVERS = f"/etc/nginx/conf.d/ai_inference_service.servers.{STACK}.conf"
SERVERS_BEFORE = "# written by hand\nserver 192.0.2.10:8800;\n"


@pytest.fixture(scope="module")
def foreign(deployed: Site) -> Iterator[Site]:
    """The gateway host with an nginx of its own, on the port that ours had, and an upstream file of its
    own; both are gone again at the end, and so is the stack."""
    deployed.settle()
    host = deployed.gateway
    deployed.program.destroy().check()
    host.run("sh", "-c", "cat >/etc/nginx/nginx.conf", stdin=SITE.encode())
    host.run("sh", "-c", f"cat >{SERVERS}", stdin=SERVERS_BEFORE.encode())
    host.run("nginx")
    try:
        deployed.config["gateway"] = {"mode": "existing", "host": host.url}
        deployed.up().check()
        yield deployed
        deployed.program.destroy().check()
    finally:
        host.run("nginx", "-s", "stop")
        wait_until(
            "nginx has ended",
            lambda: host.run("test", "!", "-e", "/run/nginx.pid", check=False).returncode == 0,
        )
        host.run("rm", SERVERS)


def page(site: Site) -> str:
    return httpx.get(f"{site.url}/", trust_env=False).text


def test_the_existing_site_stays_and_serves_the_fleet(foreign: Site) -> None:
    assert page(foreign) == "somebody else's site"
    assert "emotions" in foreign.ask()
    assert foreign.gateway.run("cat", "/etc/nginx/nginx.conf").stdout == SITE
    assert foreign.gateway.containers(everything=True) == {}


def test_draining_reloads_the_existing_nginx_without_a_failed_request(foreign: Site) -> None:
    foreign.node("gpu-2")["drained"] = True
    with load(foreign.request, rate=20) as seen:
        foreign.up().check()
    assert not seen.failures, seen.summary()


def test_destroy_puts_back_the_file_that_was_there(foreign: Site) -> None:
    foreign.program.destroy().check()
    host = foreign.gateway
    assert host.run("cat", SERVERS).stdout == SERVERS_BEFORE
    assert host.run("ls", "/etc/nginx/conf.d").stdout.split() == [SERVERS.rpartition("/")[2]]
    assert page(foreign) == "somebody else's site"
    assert foreign.containers() == {}
