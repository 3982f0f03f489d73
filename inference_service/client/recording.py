"""Buffers audio until the service has answered it, so that it can be sent again to another node."""

from collections.abc import Iterator
from threading import Condition, Thread

from inference_service.client.errors import ClientError

#: Seconds of audio that are read ahead of the answers: more than the service buffers of a stream.
_READ_AHEAD = 60.0

#: Seconds for a thread that decodes to notice that nobody reads any more.
_STOP_SECONDS = 2.0

#: Seconds of audio that are sent at once.
CHUNK_SECONDS = 0.1


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
        #: The thread that decodes into this recording. Python must not exit while it has a decoder open.
        self.decoder: Thread | None = None

    @property
    def answered(self) -> int:
        """Start of the audio without a final result, in bytes."""
        with self._changed:
            return self._start

    @property
    def failure(self) -> ClientError | None:
        """Why the rest of the audio could not be read, once the audio has ended."""
        with self._changed:
            return self._failure

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
        """Mark that nobody reads the audio any more: threads that wait wake up, and the decoder's ends."""
        with self._changed:
            self._abandoned = self._finished = True
            self._changed.notify_all()
        if self.decoder is not None:
            self.decoder.join(_STOP_SECONDS)

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
        """Yield the audio from `start` (in bytes) to its end, in chunks of at most a tenth of a second."""
        size = int(CHUNK_SECONDS * self.sample_rate) * self._frame
        position = start
        while True:
            with self._changed:
                while position >= self._start + len(self._data) and not self._finished:
                    self._changed.wait()
                position = max(position, self._start)
                chunk = bytes(self._data[position - self._start : position - self._start + size])
                if not chunk:
                    return
            position += len(chunk)
            yield chunk
