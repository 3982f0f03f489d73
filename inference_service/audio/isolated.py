"""Decodes in a process of its own for each recording and each stream; `decoder_process` is that process."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import numpy as np

from inference_service.audio import messages
from inference_service.audio.jobs import Failure, Job
from inference_service.audio.messages import DATA, DONE, END, ERROR, JOB
from inference_service.audio.mono import Block
from inference_service.errors import BadRequest, Busy, ServiceError, TooLarge

_log = logging.getLogger(__name__)

#: Processes at once, and so streams of coded audio. Each has a few megabytes of its own.
MAX_PROCESSES = 256

#: Seconds after which a thread that waits for its decoder looks whether its client has left.
_LOOKS_EVERY = 0.1

#: Seconds for a process to start; the first one loads the libraries.
_START_SECONDS = 60.0

_ERRORS: dict[str, type[ServiceError]] = {"BadRequest": BadRequest, "TooLarge": TooLarge}

_places = threading.BoundedSemaphore(MAX_PROCESSES)


class _Parent:
    """The process that has the libraries loaded and forks the others. It starts with the first recording."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def connect(self) -> socket.socket:
        """Return a connection to a new decoder."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            for is_last in (False, True):
                try:
                    socket.send_fds(self._running(), [b"+"], [theirs.fileno()])
                    return ours
                except OSError:
                    self._stop()  # it was killed
                    if is_last:
                        ours.close()
                        raise
        raise AssertionError("unreachable")

    def _running(self) -> socket.socket:
        if self._control is None or self._process is None or self._process.poll() is not None:
            self._stop()
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "inference_service.audio.decoder_process"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # libraries write there what they think of each recording
                    env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
        return self._control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


#: One thread: forking is safe with one only, and each recording has its own process.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

_parent = _Parent()


class Decoder:
    """One process that decodes. Use it as a context, or call `close`: the process ends with it."""

    def __init__(self, job: Job) -> None:
        """Waits for the process, for milliseconds, the first time for a second.

        Raises Busy if there are too many, or if the process does not start.
        """
        if not _places.acquire(blocking=False):
            raise Busy(f"{MAX_PROCESSES} recordings and streams are being decoded, the most allowed")
        self.label = job.label
        self.connection: socket.socket | None = None
        self._handle: int | None = None
        try:
            self.connection = _parent.connect()
            self.connection.settimeout(_START_SECONDS)
            messages.send(self.connection, JOB, msgspec.json.encode(job))
            started = messages.receive(self.connection)
            if started is not None:
                with suppress(OSError):  # it has ended already, or this system has no such handles
                    self._handle = os.pidfd_open(int(started[1]))
        except TimeoutError:
            self.close()
            raise Busy(f"no decoder started within {_START_SECONDS:g} s") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process. May be called twice."""
        if self._handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            os.close(self._handle)
            self._handle = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            _places.release()

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def failed(self) -> ServiceError:
        """The error of a process that ended without an answer, for the client; the log has a warning.

        A damaged recording does that, and so does a fault of the decoder.
        """
        _log.warning("a decoder process ended without an answer", extra={"recording": self.label})
        return BadRequest(f"audio: {self.label} is damaged: it makes the decoder fail")


def blocks(data: memoryview, job: Job, check: Callable[[], None], refusal: ServiceError) -> Iterator[Block]:
    """Yield the waveform of a file in blocks, float32 [frames, 1] at `job.rate`.

    `check` is called often and may raise. Raises BadRequest, TooLarge, Busy, what `check` raises, and
    `refusal` for a file that no library recognises.
    """
    with Decoder(job) as decoder:
        talk = _Talk(decoder, check)
        for start in range(0, len(data), messages.MAX_CONTENT):
            talk.send(DATA, data[start : start + messages.MAX_CONTENT])
        talk.send(END)
        while (message := talk.receive())[0] != DONE:
            kind, content = message
            if kind == ERROR:
                raise error_of(content, refusal)
            yield np.frombuffer(content, np.float32)[:, np.newaxis], job.rate


def error_of(content: bytes | bytearray, refusal: ServiceError) -> ServiceError:
    """The error that a decoder reports; `refusal` for a recording that it does not recognise."""
    failure = msgspec.json.decode(content, type=Failure)
    kind = _ERRORS.get(failure.kind)
    return refusal if kind is None else kind(failure.text)


class _Talk:
    """Messages to and from a decoder, from a thread that ends when `check` raises."""

    def __init__(self, decoder: Decoder, check: Callable[[], None]) -> None:
        assert decoder.connection is not None
        self._decoder = decoder
        self._connection = decoder.connection
        self._connection.settimeout(_LOOKS_EVERY)
        self._check = check

    def send(self, kind: bytes, content: bytes | memoryview = b"") -> None:
        """Send a message. Raises BadRequest if the process has ended."""
        left = memoryview(messages.packed(kind, content))
        while len(left):
            self._check()
            try:
                left = left[self._connection.send(left) :]
            except TimeoutError:
                continue
            except OSError:
                raise self._decoder.failed() from None

    def receive(self) -> tuple[bytes, bytearray]:
        """Return the next message. Raises BadRequest if the process has ended."""
        kind, length = messages.unpacked(bytes(self._exactly(messages.HEADER_BYTES)))
        return kind, self._exactly(length)

    def _exactly(self, size: int) -> bytearray:
        content = bytearray(size)
        left = memoryview(content)
        while len(left):
            self._check()
            try:
                received = self._connection.recv_into(left)
            except TimeoutError:
                continue
            except OSError:
                received = 0
            if not received:
                raise self._decoder.failed()
            left = left[received:]
        return content
