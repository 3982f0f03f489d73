"""One worker process: HTTP and the side servers over one engine in one event loop."""

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

from inference_service import logs, metrics, tls, tracing
from inference_service.app import create_app
from inference_service.engine import Engine
from inference_service.grpc_api import server as grpc_server
from inference_service.http.protocol import HttpProtocol
from inference_service.http.websocket import StreamProtocol
from inference_service.runtimes import build_runtime
from inference_service.settings import Settings
from inference_service.settings.types import ServerTlsSettings
from inference_service.supervisor import TRACEBACK_SIGNAL

_log = logging.getLogger(__name__)

#: Seconds for which a draining worker still accepts connections and answers them 503: the gateway retries
#: these requests at another node. A reset connection would be an error to the client.
LINGER = 1.0
#: Seconds for which an idle connection is kept: longer than nginx keeps it (60), so that nginx closes first.
_KEEP_ALIVE = 75

#: Seconds for the answer to a WebSocket's ping. Longer than an inference waits on a full node, because the
#: answer is not read while the stream's audio waits.
_WEBSOCKET_PING_TIMEOUT = 120.0

#: Seconds after which a thread that computes lets the event loop go on; Python's default is 5 ms, which the
#: loop would wait for after each of its steps while large bodies are decoded.
_SWITCH_INTERVAL = 0.001

#: Seconds between two heartbeats to the parent.
_HEARTBEAT = 0.4


class _Server(uvicorn.Server):
    """Uvicorn's server, without its signal handlers: `serve` has its own.

    It serves the same application on a second socket with TLS, which uvicorn has for all sockets or none.
    """

    def __init__(
        self, config: uvicorn.Config, with_tls: socket.socket | None, with_client: ServerTlsSettings
    ) -> None:
        super().__init__(config)
        self._with_tls, self._tls = with_tls, with_client

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._with_tls is None or not self.started:
            return

        def protocol() -> asyncio.Protocol:
            return HttpProtocol(self.config, self.server_state, self.lifespan.state)

        self.servers.append(
            await asyncio.get_running_loop().create_server(
                protocol, sock=self._with_tls, ssl=tls.context(self._tls), backlog=self.config.backlog
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown([*(sockets or []), *([self._with_tls] if self._with_tls else [])])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _beat(heartbeat: int) -> None:
    """Write a heartbeat to the pipe `heartbeat` until cancelled."""
    os.set_blocking(heartbeat, False)
    while True:
        # Full: the parent is stopped and does not read. Broken: the parent is gone; `serve` notices by stdin.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(heartbeat, b".")
        await asyncio.sleep(_HEARTBEAT)


async def serve(
    settings: Settings, listener: socket.socket, heartbeat: int, with_tls: socket.socket | None = None
) -> None:
    """Serve until SIGTERM, SIGINT or the parent's end; write heartbeats to `heartbeat`.

    `listener` is the socket for HTTP, and `with_tls` the one for HTTPS where `server.tls` is set.
    """
    metrics.STARTED.set_to_current_time()
    engine = Engine(settings, build_runtime(settings))
    config = uvicorn.Config(
        create_app(engine, [grpc_server.serve]),
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
    server = _Server(config, with_tls, settings.server.tls)
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
    heartbeats = asyncio.create_task(_beat(heartbeat))
    tracing.start(settings)
    try:
        await server.serve(sockets=[listener])
        await asyncio.to_thread(tracing.stop)
    finally:
        heartbeats.cancel()
        logs.flush_access()


def main() -> None:
    """Run a worker. Its arguments are the descriptors of the heartbeat's pipe and of the listening sockets;
    its pickled settings come on standard input."""
    faulthandler.register(TRACEBACK_SIGNAL)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    settings: Settings = pickle.load(sys.stdin.buffer)  # written by the parent process
    logs.configure(settings.server.log_level)
    # The parent blocks the signals that it waits for, and a child inherits that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        heartbeat, *fds = map(int, sys.argv[1:])
        listener, *with_tls = [socket.socket(fileno=fd) for fd in fds]
        runner.run(serve(settings, listener, heartbeat, *with_tls))


if __name__ == "__main__":
    main()
