"""The parent process: one listening socket, the workers that share it, and an orderly end.

Uvicorn's own supervisor is not used: it keeps the listening socket open while its workers drain, so that new
connections hang in the backlog instead of being refused, and its workers stop listening at once instead of
answering 503 to what is already on its way.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from inference_service.settings import Settings

_log = logging.getLogger(__name__)

#: A worker that ends with this could not start, and another would not either (uvicorn's code for it).
STARTUP_FAILED = 3
#: Seconds that a worker must live to be restarted at once when it dies.
_STABLE = 10.0
_LONGEST_BACKOFF = 5.0
#: Seconds beyond the grace after which a worker that has not ended is killed.
_KILL_AFTER = 5.0

#: Seconds between two looks at whether the workers still move.
_LOOK_EVERY = 0.5
#: Asks a worker where it stands, each of its threads.
WHERE_SIGNAL = signal.SIGUSR1
#: Seconds from asking a worker that hangs where it stands to killing it.
_LAST_WORDS = 1.0

#: How glibc's allocator keeps memory, unless the environment says otherwise: bytes that stay when they are
#: free, and from where on a block is never kept. Left alone, it gives every long request's buffers back to
#: the kernel, which zeroes as many pages again for the next: a third of the cost of one with 30 s of audio.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(16 << 20)}

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class StartError(Exception):
    """The service cannot start; `str(error)` says why and what to change."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status. Raises StartError."""
    listener = _listen(settings)
    _prepare(settings.server.directory)
    return _Supervisor(settings, listener).run()


def _listen(settings: Settings) -> socket.socket:
    server = settings.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.http_port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartError(
            f"server.http_port: cannot listen on {server.host}:{server.http_port}: {error.strerror}; "
            "stop what uses it, or set another port (SERVER__HTTP_PORT)"
        ) from None
    return listener


def _prepare(directory: Path) -> None:
    """The runtime directory, empty of what an earlier run left: its counters would be added to ours."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(directory / "metrics", ignore_errors=True)
        (directory / "metrics").mkdir()
        for left in directory.glob("results.sqlite3*"):
            left.unlink()
    except OSError as error:
        raise StartError(
            f"server.runtime_dir: {directory} cannot be used: {error.strerror}; set SERVER__RUNTIME_DIR"
        ) from None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory / "metrics")


class _Worker:
    """One worker process. Its standard input brings its settings and then, by ending, says that the parent is
    gone. Through a pipe of its own its event loop says that it moves."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.started = time.monotonic()
        #: Seconds for which it has not moved; None until it has for the first time.
        self.silent: float | None = None
        self._heartbeat, heartbeat = os.pipe()
        os.set_blocking(self._heartbeat, False)
        fd = listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inference_service.worker", str(fd), str(heartbeat)],
            stdin=subprocess.PIPE,
            pass_fds=(fd, heartbeat),
            env={**_ALLOCATOR, **os.environ},
        )
        os.close(heartbeat)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(pickle.dumps(settings))
            self.process.stdin.flush()
        except BrokenPipeError:
            _log.debug(
                "a worker ended before it had its settings"
            )  # its exit status is handled like any other

    def look(self, elapsed: float) -> None:
        """Bring `silent` up to date, `elapsed` seconds after the last look."""
        try:
            moved = bool(os.read(self._heartbeat, 4096))
        except BlockingIOError:
            moved = False
        if moved:
            self.silent = 0.0
        elif self.silent is not None:
            self.silent += elapsed

    def close(self) -> None:
        """Close the pipes to a worker that has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        os.close(self._heartbeat)


class _Supervisor:
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[_Worker] = []
        self._failures = 0
        self._start_at: list[float] = []
        self._looked_at = time.monotonic()

    def run(self) -> int:
        # Blocked, signals wait for sigtimedwait; with a handler, a container's init gets them too.
        for number in _WATCHED:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        server = self._settings.server
        _log.info(
            "starting",
            extra={"http": f"{server.host}:{server.http_port}", "workers": server.workers},
        )
        self._start_at = [0.0] * server.workers
        failed = False
        while not failed:
            self._start_due()
            asked = self._wait(min(self._next_start(), _LOOK_EVERY))
            if asked in (signal.SIGTERM, signal.SIGINT):
                break
            self._end_hanging()
            failed = self._reap()
        self._stop()
        return 1 if failed else 0

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [at for at in self._start_at if at <= now]
        self._start_at = [at for at in self._start_at if at > now]
        self._workers += [_Worker(self._settings, self._listener) for _ in due]

    def _next_start(self) -> float:
        return max(0.0, min(self._start_at, default=math.inf) - time.monotonic())

    @staticmethod
    def _wait(seconds: float) -> int | None:
        info = signal.sigtimedwait(_WATCHED, seconds)
        return info.si_signo if info else None

    def _end_hanging(self) -> None:
        """End the workers whose event loop has stood still for `server.hang_timeout`."""
        now = time.monotonic()
        # What the supervisor did not see, because it was stopped or starved itself, is held against nobody.
        elapsed = min(now - self._looked_at, 2 * _LOOK_EVERY)
        self._looked_at = now
        limit = self._settings.server.hang_timeout
        for worker in self._workers:
            before = worker.silent
            worker.look(elapsed)
            if before is None or worker.silent is None:
                continue
            if before < limit <= worker.silent:
                # It writes to its standard error where it stands; one that is stopped cannot.
                worker.process.send_signal(WHERE_SIGNAL)
            elif worker.silent >= limit + _LAST_WORDS:
                _log.error(
                    "a worker hangs, ending it", extra={"worker": worker.process.pid, "silent": worker.silent}
                )
                worker.process.kill()
                worker.silent = None

    def _reap(self) -> bool:
        """Forget the workers that ended and plan their successors; True when starting again is hopeless."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            self._forget(worker)
            if worker.process.returncode == STARTUP_FAILED:
                _log.error("a worker could not start, stopping", extra={"worker": worker.process.pid})
                return True
            stable = time.monotonic() - worker.started > _STABLE
            self._failures = 0 if stable else self._failures + 1
            backoff = min(_LONGEST_BACKOFF, 0.1 * 2**self._failures) if self._failures else 0.0
            self._start_at.append(time.monotonic() + backoff)
            _log.error(
                "a worker died, starting another",
                extra={"worker": worker.process.pid, "exit_status": worker.process.returncode, "in": backoff},
            )
        return False

    def _forget(self, worker: _Worker) -> None:
        from inference_service import metrics

        worker.close()
        metrics.forget_worker(worker.process.pid)

    def _stop(self) -> None:
        """Tell every worker to finish. Without our copy, the socket refuses once they have closed theirs."""
        _log.info("stopping")
        self._listener.close()
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.server.shutdown_grace + _KILL_AFTER
        while self._workers and time.monotonic() < deadline:
            asked = self._wait(deadline - time.monotonic())
            if asked in (signal.SIGTERM, signal.SIGINT):
                # Asked again: whoever asks does not want to wait for what is running.
                for worker in self._workers:
                    worker.process.send_signal(signal.SIGTERM)
            self._workers = [worker for worker in self._workers if worker.process.poll() is None]
        for worker in self._workers:
            _log.error("a worker did not end in time, killing it", extra={"worker": worker.process.pid})
            worker.process.kill()
            worker.process.wait()
        _log.info("stopped")
