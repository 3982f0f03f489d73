"""One worker process: HTTP and the side servers over one engine in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from inference_service import logs
from inference_service.app import SideServer, create_app
from inference_service.engine import Engine
from inference_service.grpc_api import server as grpc_server
from inference_service.http.protocol import HttpProtocol
from inference_service.http.websocket import StreamProtocol
from inference_service.runtimes import build_runtime
from inference_service.settings import Settings
from inference_service.supervisor import TRACEBACK_SIGNAL

_log = logging.getLogger(__name__)

#: Seconds for which a draining worker still takes connections, to answer them 503: what was already on its
#: way gets an answer that a gateway tries elsewhere, instead of a reset connection.
LINGER = 1.0
#: Seconds for which an idle connection is kept: longer than nginx's own (60), so that nginx closes first.
_KEEP_ALIVE = 75

#: Seconds for a WebSocket's answer to a ping: more than a full node may take, because the answer is not read
#: while the stream's audio waits to be worked on.
_WEBSOCKET_PING_TIMEOUT = 120.0

#: Seconds between two signs of life to the parent.
_HEARTBEAT = 0.4

#: What serves beside HTTP in the same event loop.
SIDE_SERVERS: tuple[SideServer, ...] = (grpc_server.serve,)


class _Server(uvicorn.Server):
    """Uvicorn's server, with the signals left to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _beat(heartbeat: int) -> None:
    """Say, again and again, through the pipe `heartbeat` that this event loop moves."""
    os.set_blocking(heartbeat, False)
    while True:
        # Full: nobody reads, because the parent is stopped. Broken: it is gone, and standard input says so.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(heartbeat, b".")
        await asyncio.sleep(_HEARTBEAT)


async def serve(settings: Settings, listener: socket.socket, heartbeat: int) -> None:
    """Serve on `listener` until SIGTERM, SIGINT, or the parent's end, with a beat to the pipe `heartbeat`."""
    engine = Engine(settings, build_runtime(settings))
    config = uvicorn.Config(
        create_app(engine, SIDE_SERVERS),
        http=HttpProtocol,
        ws=StreamProtocol,
        ws_ping_timeout=_WEBSOCKET_PING_TIMEOUT,
        ws_per_message_deflate=False,  # audio does not shrink by it
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.server.shutdown_grace - LINGER)),
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def close() -> None:
        server.should_exit = True

    def stop() -> None:
        if engine.draining:
            server.should_exit = server.force_exit = True
            return
        _log.info("draining", extra={"running": engine.admission.running, "queued": engine.admission.waiting})
        engine.drain()
        loop.call_later(LINGER, close)

    def parent_gone() -> None:
        loop.remove_reader(sys.stdin.fileno())
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_reader(sys.stdin.fileno(), parent_gone)
    beating = asyncio.create_task(_beat(heartbeat))
    try:
        await server.serve(sockets=[listener])
    finally:
        beating.cancel()
        logs.flush_access()


def main() -> None:
    """Run a worker on the descriptors given as arguments, the listening socket's and the heartbeat's;
    settings come on stdin."""
    faulthandler.register(TRACEBACK_SIGNAL)
    settings: Settings = pickle.load(sys.stdin.buffer)  # from our own parent, through our own pipe
    logs.configure(settings.server.log_level)
    # The parent waits for its signals with them blocked, and a child inherits that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))


if __name__ == "__main__":
    main()
