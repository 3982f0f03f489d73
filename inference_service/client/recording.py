"""Buffers audio until the service has answered it, so that it can be sent again to another node."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Condition, Thread
from typing import BinaryIO

import soundfile

from inference_service.client.errors import ClientError

#: Seconds of audio that are read ahead of the answers: more than the service buffers of a stream.
_READ_AHEAD = 60.0

_CHUNK_SECONDS = 0.1


class Recording:
    """16-bit PCM that one thread fills and other threads read, each from its own position.

    Answered audio is dropped. `append` waits while too much audio is unanswered.
    """

    def __init__(self, sample_rate: int, channels: int = 1) -> None:
        self.sample_rate = sample_rate  # Hz
        self.channels = channels
        self._frame = 2 * channels
        self._data = bytearray()
        self._start = 0  # of `_data` in the recording, in bytes
        self._answered_ms = 0
        self._finished = False
        self._failure: ClientError | None = None
        self._abandoned = False
        self._changed = Condition()

    @property
    def answered(self) -> int:
        """Start of the audio without a final result, in bytes."""
        with self._changed:
            return self._start

    @property
    def seconds_read(self) -> float:
        """Seconds of audio that were appended so far."""
        with self._changed:
            return (self._start + len(self._data)) / self._frame / self.sample_rate

    def append(self, data: bytes) -> bool:
        """Add audio; waits while `_READ_AHEAD` is unanswered. Returns False once abandoned."""
        limit = int(_READ_AHEAD * self.sample_rate) * self._frame
        with self._changed:
            self._changed.wait_for(lambda: len(self._data) < limit or self._abandoned)
            self._data += data
            self._changed.notify_all()
            return not self._abandoned

    def finish(self, failure: ClientError | None = None) -> None:
        """Mark the end of the audio; `failure` says why the rest cannot be read."""
        with self._changed:
            self._finished = True
            self._failure = failure
            self._changed.notify_all()

    def abandon(self) -> None:
        """Mark that nobody reads the audio any more, and wake the threads that wait."""
        with self._changed:
            self._abandoned = self._finished = True
            self._changed.notify_all()

    def answer(self, milliseconds: int) -> None:
        """Drop another `milliseconds` of audio, which have their final result."""
        with self._changed:
            self._answered_ms += milliseconds
            until = self._answered_ms * self.sample_rate // 1000 * self._frame
            until = min(max(until, self._start), self._start + len(self._data))
            del self._data[: until - self._start]
            self._start = until
            self._changed.notify_all()

    def chunks(self, start: int) -> Iterator[bytes]:
        """Yield the audio from `start` (in bytes) to its end, in chunks of at most a tenth of a second.

        Raises the failure that ended it.
        """
        size = int(_CHUNK_SECONDS * self.sample_rate) * self._frame
        position = start
        while True:
            with self._changed:
                while position >= self._start + len(self._data) and not self._finished:
                    self._changed.wait()
                position = max(position, self._start)
                chunk = bytes(self._data[position - self._start : position - self._start + size])
                if not chunk:
                    if self._failure is not None:
                        raise self._failure
                    return
            position += len(chunk)
            yield chunk


def from_file(path: Path, *, realtime: bool) -> Recording:
    """Return the recording in a file of any format that libsndfile reads.

    With `realtime` it is filled as fast as it is spoken, else as fast as it is read. Raises ClientError.
    """
    try:
        file = soundfile.SoundFile(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ClientError(f"{path}: cannot be read: {error}") from None
    recording = Recording(file.samplerate, file.channels)
    Thread(target=_fill_from_file, args=(recording, file, realtime), daemon=True).start()
    return recording


def from_pipe(pipe: BinaryIO, sample_rate: int, channels: int) -> Recording:
    """Return a recording that is filled from a pipe: 16-bit little-endian PCM."""
    recording = Recording(sample_rate, channels)
    Thread(target=_fill_from_pipe, args=(recording, pipe), daemon=True).start()
    return recording


def _fill_from_file(recording: Recording, file: soundfile.SoundFile, realtime: bool) -> None:
    frames = int(_CHUNK_SECONDS * file.samplerate)
    began = time.monotonic()
    with file:
        try:
            for block in file.blocks(frames, dtype="int16"):
                if realtime:
                    time.sleep(max(0.0, began + recording.seconds_read - time.monotonic()))
                if not recording.append(block.astype("<i2").tobytes()):
                    return
        except soundfile.LibsndfileError as error:
            recording.finish(ClientError(f"{file.name}: cannot be read to its end: {error}"))
            return
    recording.finish()


def _fill_from_pipe(recording: Recording, pipe: BinaryIO) -> None:
    read = getattr(pipe, "read1", pipe.read)
    while data := read(65536):
        if not recording.append(data):
            return
    recording.finish()
