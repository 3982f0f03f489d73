"""The gateway's nginx and the console beside it: while the console is away, and when it comes back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from inference_service.console import gateway_log
from infra.gateway.render import Site
from tests.gateway import nginx
from tests.ports import free_port


@contextmanager
def console(site: Site) -> Iterator[gateway_log.GatewayLog]:
    """What a console is to nginx: pages on one Unix socket, and the reader of the other one's lines."""
    ready, done = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    made: list[gateway_log.GatewayLog] = []

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nconsole")
        await writer.drain()
        writer.close()

    async def serve() -> None:
        made.append(await gateway_log.listen(site.paths.console_log))
        server = await asyncio.start_unix_server(page, site.paths.console)
        Path(site.paths.console).chmod(0o666)
        ready.set()
        await done.wait()
        server.close()
        Path(site.paths.console).unlink()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


def test_only_the_consoles_pages_are_missing_while_it_is_away_and_all_is_well_when_it_returns(
    tmp_path: Path,
) -> None:
    declared = Site(http=free_port(), grpc=free_port(), console=True)
    with nginx.running(declared, tmp_path) as site, httpx2.Client(trust_env=False) as client:
        url = f"http://127.0.0.1:{site.http}"
        for path in ("/", "/console", "/console/api/fleet"):
            answer = client.get(f"{url}{path}")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert "The console does not answer" in answer.text
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert client.get(f"{url}/other").json()["code"] == 404
        # Twice: nginx's workers have the socket of a console that is gone.
        for _ in range(2):
            with console(site) as log:
                assert client.get(f"{url}/console").text == "console"
                assert client.get(f"{url}/").text == "console"
                end = time.monotonic() + 10
                while log.sample().requests < 1 and time.monotonic() < end:
                    client.get(f"{url}/other")
                    time.sleep(0.02)
                assert log.sample().requests >= 1
            assert client.get(f"{url}/console").status_code == 503
