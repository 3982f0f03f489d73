"""The parent process: the listening sockets, the workers that share them, and an orderly end.

Uvicorn's supervisor is not used. It keeps the listening socket open while its workers drain, so new
connections hang in the backlog instead of being refused. Its workers also stop listening at once, instead of
answering 503 to requests that are already on their way.
"""

import logging
import os
import pickle
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from inference_service import tls
from inference_service.settings import Settings, shares

_log = logging.getLogger(__name__)

#: Uvicorn's exit status of a worker that could not start; another one could not start either.
STARTUP_FAILED = 3
#: Seconds that a worker must have lived to be replaced without a delay when it dies.
_STABLE = 10.0
_LONGEST_BACKOFF = 5.0
#: Seconds after the grace time until a worker that has not ended is killed.
_KILL_AFTER = 5.0

#: Seconds between two checks of the workers' heartbeats.
_CHECK_EVERY = 0.5
#: Makes a worker write the traceback of each of its threads to standard error.
TRACEBACK_SIGNAL = signal.SIGUSR1
#: Seconds that a worker that hangs has to write its tracebacks before it is killed.
_TRACEBACK_TIME = 1.0

#: Settings of glibc's allocator, which the environment can override: free bytes that it keeps at the top of
#: the heap, and the size from which a block is mapped on its own. With its defaults it returns every long
#: request's buffers to the kernel, which zeroes new pages for the next: a third of the cost of a request with
#: 30 s of audio.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(16 << 20)}

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class StartError(Exception):
    """The service cannot start; `str(error)` says why and what to change."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status. Raises StartError."""
    server = settings.server
    _check_tls(settings)
    listeners = [_listen(server.host, server.http_port, "http_port")]
    if server.tls.files is not None:
        listeners.append(_listen(server.host, server.tls.http_port, "tls.http_port"))
    _prepare(server.directory)
    return _Supervisor(settings, listeners).run()


def _check_tls(settings: Settings) -> None:
    """Each worker reads the certificates when it starts; here, the one message says what is wrong."""
    try:
        tls.context(settings.server.tls)
    except ssl.SSLError as error:
        reason = error.reason or error
        raise StartError(
            "server.tls: certificate, key and client_ca have to be PEM, and the key that of the certificate: "
            f"{reason}"
        ) from None
    except OSError as error:
        raise StartError(f"server.tls: {error.filename}: {error.strerror}") from None


def _listen(host: str, port: int, key: str) -> socket.socket:
    """A listening socket; `key` is the port's key in the section `server`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartError(
            f"server.{key}: cannot listen on {host}:{port}: {error.strerror}; "
            f"stop what uses it, or set another port (SERVER__{key.upper().replace('.', '__')})"
        ) from None
    return listener


def _prepare(directory: Path) -> None:
    """Create the runtime directory; remove an earlier run's files, whose counters would be added to this
    run's.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_owner(directory)
        shutil.rmtree(directory / "metrics", ignore_errors=True)
        (directory / "metrics").mkdir()
        for left in directory.glob("results.sqlite3*"):
            left.unlink()
    except OSError as error:
        raise StartError(
            f"server.runtime_dir: {directory} cannot be used: {error.strerror}; set SERVER__RUNTIME_DIR"
        ) from None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory / "metrics")


def _check_owner(directory: Path) -> None:
    """Anybody can create a folder of this name in /tmp before the service does, and fill it."""
    found = directory.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        raise StartError(
            f"server.runtime_dir: {directory} is a link, another user's, or writable for everybody; remove "
            "it, or set SERVER__RUNTIME_DIR"
        )


class _Worker:
    """One worker process.

    It reads its settings from its standard input; the end of that input means that the parent has died. Its
    event loop writes heartbeats to a pipe.
    """

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket], index: int) -> None:
        """`index` counts the workers from 0: a worker's shares of the node's limits depend on it."""
        self.index = index
        self.started = time.monotonic()
        #: Seconds since its last heartbeat; None before the first.
        self.silent: float | None = None
        self._heartbeat, heartbeat = os.pipe()
        os.set_blocking(self._heartbeat, False)
        fds = [listener.fileno() for listener in listeners]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inference_service.worker", *map(str, [heartbeat, *fds])],
            stdin=subprocess.PIPE,
            pass_fds=(heartbeat, *fds),
            env={**_ALLOCATOR, **os.environ},
        )
        os.close(heartbeat)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(pickle.dumps(shares.for_worker(settings, index)))
            self.process.stdin.flush()
        except BrokenPipeError:
            # Its exit status is handled like any other.
            _log.debug("a worker ended before it had read its settings")

    def read_heartbeats(self, elapsed: float) -> None:
        """Update `silent`, `elapsed` seconds after the last call."""
        try:
            received = bool(os.read(self._heartbeat, 4096))
        except BlockingIOError:
            received = False
        if received:
            self.silent = 0.0
        elif self.silent is not None:
            self.silent += elapsed

    def close(self) -> None:
        """Close the pipes to a worker that has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        os.close(self._heartbeat)


class _Supervisor:
    def __init__(self, settings: Settings, listeners: Sequence[socket.socket]) -> None:
        self._settings = settings
        self._listeners = listeners
        self._workers: list[_Worker] = []
        self._failures = 0
        #: The workers to start, by index, with the time of the monotonic clock from which they may.
        self._starts = dict.fromkeys(range(settings.server.workers), 0.0)
        self._checked_at = time.monotonic()

    def run(self) -> int:
        # Blocked signals wait for sigtimedwait. A container's first process gets only signals with a handler.
        for number in _WATCHED:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        server = self._settings.server
        _log.info(
            "starting",
            extra={"http": f"{server.host}:{server.http_port}", "workers": server.workers},
        )
        failed = False
        while not failed:
            self._start_due()
            if self._wait(_CHECK_EVERY) in (signal.SIGTERM, signal.SIGINT):
                break
            self._end_hanging()
            failed = self._reap()
        self._stop()
        return 1 if failed else 0

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, at in self._starts.items() if at <= now]:
            del self._starts[index]
            self._workers.append(_Worker(self._settings, self._listeners, index))

    @staticmethod
    def _wait(seconds: float) -> int | None:
        info = signal.sigtimedwait(_WATCHED, seconds)
        return info.si_signo if info else None

    def _end_hanging(self) -> None:
        """Kill the workers that have sent no heartbeat for `server.hang_timeout`."""
        now = time.monotonic()
        # Time in which the supervisor itself was stopped or starved does not count as silence.
        elapsed = min(now - self._checked_at, 2 * _CHECK_EVERY)
        self._checked_at = now
        limit = self._settings.server.hang_timeout
        for worker in self._workers:
            before = worker.silent
            worker.read_heartbeats(elapsed)
            if before is None or worker.silent is None:
                continue
            if before < limit <= worker.silent:
                worker.process.send_signal(TRACEBACK_SIGNAL)
            elif worker.silent >= limit + _TRACEBACK_TIME:
                _log.error(
                    "a worker hangs, killing it",
                    extra={"worker": worker.process.pid, "silent": worker.silent},
                )
                worker.process.kill()
                worker.silent = None

    def _reap(self) -> bool:
        """Plan the successors of workers that ended. True when a worker could not start at all."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            worker.close()
            mark_process_dead(worker.process.pid)  # drops its gauges; its counts stay in the sums
            if worker.process.returncode == STARTUP_FAILED:
                _log.error("a worker could not start, stopping", extra={"worker": worker.process.pid})
                return True
            stable = time.monotonic() - worker.started > _STABLE
            self._failures = 0 if stable else self._failures + 1
            backoff = min(_LONGEST_BACKOFF, 0.1 * 2**self._failures) if self._failures else 0.0
            self._starts[worker.index] = time.monotonic() + backoff
            _log.error(
                "a worker died, starting another",
                extra={"worker": worker.process.pid, "exit_status": worker.process.returncode, "in": backoff},
            )
        return False

    def _stop(self) -> None:
        """Stop every worker, and kill those that outlive the grace time."""
        _log.info("stopping")
        # New connections are refused as soon as the last worker has closed its copies of the sockets too.
        for listener in self._listeners:
            listener.close()
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.server.shutdown_grace + _KILL_AFTER
        while self._workers and time.monotonic() < deadline:
            if self._wait(deadline - time.monotonic()) in (signal.SIGTERM, signal.SIGINT):
                # A second signal: do not wait for running requests.
                for worker in self._workers:
                    worker.process.send_signal(signal.SIGTERM)
            self._workers = [worker for worker in self._workers if worker.process.poll() is None]
        for worker in self._workers:
            _log.error("a worker did not end in time, killing it", extra={"worker": worker.process.pid})
            worker.process.kill()
            worker.process.wait()
        _log.info("stopped")
