"""The process that decodes with other people's libraries; `isolated` starts it and talks to it.

It loads the libraries once and forks for each recording and each stream. A recording that crashes a decoder,
or makes it allocate or compute without end, costs its own process only. The processes can open no file and
write none, and their memory and time are limited.
"""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import numpy as np

from inference_service.audio import ffmpeg, foreign, messages, wav
from inference_service.audio.jobs import Failure, Job, NotRecognised
from inference_service.audio.messages import BLOCK, DATA, DONE, END, ERROR, MORE, STARTED
from inference_service.audio.mono import Block, Mono, Waveform, waveforms
from inference_service.errors import ServiceError, TooLarge

#: Bytes of address space. The libraries take a third of it; a recording has at most 100 MB.
_MAX_MEMORY = 2 << 30

#: Seconds of processor time for a file. Half an hour of AAC takes three. A stream may last for days.
_MAX_SECONDS = 120

#: Seconds of audio in a block of a stream.
_BLOCK_SECONDS = 1.0

#: FFmpeg learns what it must know of a stream from the header; more would keep the first words waiting.
_LIVE = {"probesize": "4096", "analyzeduration": "0"}


class Pipe:
    """A stream's bytes as FFmpeg reads them: a file that cannot be rewound."""

    def __init__(self, connection: socket.socket, flush: "_Flush") -> None:
        self._connection = connection
        self._flush = flush
        self._bytes = bytearray()
        self._at_end = False
        self._has_begun = False

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end. Waits for the client's next chunk."""
        while not self._bytes and not self._at_end:
            if self._has_begun:
                self._flush()
                messages.send(self._connection, MORE)
            self._has_begun = True
            message = messages.receive(self._connection)
            if message is None:
                os._exit(0)  # the service has given the stream up
            kind, content = message
            self._at_end = kind == END
            self._bytes += content
        part = bytes(self._bytes[:size])
        del self._bytes[:size]
        return part


class _Flush:
    """The frames of a stream that are decoded and not sent: sent in blocks, and when FFmpeg waits."""

    def __init__(self, connection: socket.socket, rate: int) -> None:
        self._connection = connection
        self._mono = Mono(rate)
        self._held: list[np.ndarray] = []
        self._rate = 0

    def take(self, block: Block) -> None:
        """Keep a frame."""
        samples, rate = block
        if self._held and (rate != self._rate or samples.shape[1:] != self._held[0].shape[1:]):
            self()
        self._held.append(samples)
        self._rate = rate
        if sum(map(len, self._held)) >= _BLOCK_SECONDS * rate:
            self()

    def __call__(self) -> None:
        """Send what is held."""
        if self._held:
            samples = np.concatenate(self._held)
            self._held = []
            _send_block(self._connection, self._mono.add(samples, self._rate))

    def finish(self) -> None:
        """Send all of it."""
        self()
        _send_block(self._connection, self._mono.finish())


def main() -> None:
    """Fork for each connection that arrives on standard input, until the service ends."""
    control = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then ends this process
    _warm_up()
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        if os.fork() == 0:
            control.close()
            _serve(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _warm_up() -> None:
    """Decode a little with each library, so that all is loaded before a process may open no file."""
    silence = memoryview(wav.header(wav.PCM, 2, 8000, 2, 4000) + bytes(4000))
    for reader in ("ffmpeg", "libsndfile"):
        job = Job(reader, "wav", "WAV", 16_000, 60)
        for _ in _waveforms(silence, job):
            pass


def _serve(connection: socket.socket) -> None:
    """Do one job in this process, and end it."""
    status = 0
    try:
        with suppress(OSError):  # the service is gone
            messages.send(connection, STARTED, str(os.getpid()).encode())
            message = messages.receive(connection)
            if message is not None:
                _decode(connection, msgspec.json.decode(message[1], type=Job))
    except BaseException:  # noqa: BLE001 - a fault of the decoder; the service logs that no answer came
        status = 1
    os._exit(status)


def _decode(connection: socket.socket, job: Job) -> None:
    try:
        if job.reader == "stream":
            _limit(None)
            _decode_stream(connection, job)
        else:
            data = b"".join(_data(connection))
            _limit(_MAX_SECONDS)
            for part in _waveforms(memoryview(data), job):
                _send_block(connection, part)
    except (ServiceError, NotRecognised) as error:
        failure = Failure(type(error).__name__, str(error))
        messages.send(connection, ERROR, msgspec.json.encode(failure))
    else:
        messages.send(connection, DONE)


def _waveforms(data: memoryview, job: Job) -> Iterator[Waveform]:
    def check(seconds: float) -> None:
        if seconds > job.max_seconds:
            raise TooLarge(f"audio is {seconds:.1f} s long; at most {job.max_seconds:g} s are allowed")

    return waveforms(foreign.blocks(data, job, check), job.rate, check)


def _decode_stream(connection: socket.socket, job: Job) -> None:
    flush = _Flush(connection, job.rate)
    pipe = Pipe(connection, flush)
    with ffmpeg.errors_of(job.label), ffmpeg.opened(pipe, job.demuxer, _LIVE) as container:
        for block in ffmpeg.Track(container, job.label).frames():
            flush.take(block)
        flush.finish()


def _data(connection: socket.socket) -> Iterator[bytearray]:
    while (message := messages.receive(connection)) is not None and message[0] == DATA:
        yield message[1]


def _send_block(connection: socket.socket, samples: Waveform) -> None:
    content = memoryview(samples.tobytes())
    for start in range(0, len(content), messages.MAX_CONTENT):
        messages.send(connection, BLOCK, content[start : start + messages.MAX_CONTENT])


def _limit(seconds: int | None) -> None:
    """Limit this process's memory and time, and let it open and write nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    if seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    main()
