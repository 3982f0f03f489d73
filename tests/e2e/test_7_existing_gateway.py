"""`existing` mode: somebody else's nginx keeps its site. The stack owns only the upstream file, while it is
deployed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
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
CONF_D = "/etc/nginx/conf.d"
# The site's includes before the stack: the original script's file, and one under the name that the
# stack's file has. Nothing answers at these addresses: a request that is sent there hangs.
BEFORE = {
    "ai_inference_service.servers.local.conf": "server 192.0.2.10:8800;",
    f"ai_inference_service.servers.{STACK}.conf": "# written by hand\nserver 192.0.2.11:8800;\n",
}


@pytest.fixture(scope="module")
def foreign(deployed: Site) -> Iterator[Site]:
    """The gateway host with an nginx of its own, on the port of the stack's gateway, and an upstream file of
    its own. Both are removed at the end, and so is the stack."""
    deployed.settle()
    host = deployed.gateway
    deployed.program.destroy().check()
    host.run("sh", "-c", "cat >/etc/nginx/nginx.conf", stdin=SITE.encode())
    for name, text in BEFORE.items():
        host.run("sh", "-c", f"cat >{CONF_D}/{name}", stdin=text.encode())
    host.run("nginx")
    try:
        deployed.config["gateway"] = {"mode": "existing", "host": host.url}
        up = deployed.up().check()
        assert all(f"set aside while the stack is deployed: {CONF_D}/{name}" in up.output for name in BEFORE)
        yield deployed
        deployed.program.destroy().check()
    finally:
        host.run("nginx", "-s", "stop")
        wait_until(
            "nginx has ended",
            lambda: host.run("test", "!", "-e", "/run/nginx.pid", check=False).returncode == 0,
        )
        host.run("rm", *(f"{CONF_D}/{name}" for name in BEFORE))


def page(site: Site) -> str:
    return httpx2.get(f"{site.url}/", trust_env=False).text


def test_the_existing_site_stays_and_serves_the_fleet(foreign: Site) -> None:
    assert page(foreign) == "somebody else's site"
    with load(foreign.request, rate=20) as seen:
        time.sleep(2)
    assert not seen.failures, seen.summary()
    assert foreign.gateway.run("cat", "/etc/nginx/nginx.conf").stdout == SITE
    assert foreign.gateway.containers(everything=True) == {}


def test_draining_reloads_the_existing_nginx_without_a_failed_request(foreign: Site) -> None:
    foreign.node("gpu-2")["drained"] = True
    with load(foreign.request, rate=20) as seen:
        foreign.up().check()
    assert not seen.failures, seen.summary()


def test_destroy_puts_back_the_files_that_were_there(foreign: Site) -> None:
    foreign.program.destroy().check()
    host = foreign.gateway
    names = host.run("ls", CONF_D).stdout.split()
    assert {name: host.run("cat", f"{CONF_D}/{name}").stdout for name in names} == BEFORE
    assert page(foreign) == "somebody else's site"
    assert foreign.containers() == {}
