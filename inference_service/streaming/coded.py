"""Decodes a stream that FFmpeg reads: what browsers' recorders send, and the codings of telephony.

FFmpeg asks for bytes when it needs them, so it runs in a thread of its own, which waits inside `read` for the
client's next chunk.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import numpy as np

from inference_service import audio_formats as formats
from inference_service.audio import ffmpeg
from inference_service.audio.mono import Mono, Samples, Waveform
from inference_service.audio.sniff import MP4, Content, sniff
from inference_service.errors import BadRequest, Busy, ServiceError

#: Streams that are decoded in this process at once. Each has a thread, which waits most of the time.
_MAX_THREADS = 512

#: Bytes of a stream in which its signature is looked for, at least and at most: MPEG's comes every 188 bytes.
_SIGNATURE_BYTES, _MOST_SIGNATURE_BYTES = 64, 1024

#: Seconds of audio in a block, where the client sends more than that at once, and blocks that wait.
_BLOCK_SECONDS = 1.0
_MAX_WAITING = 2

#: FFmpeg learns what it must know from the header; more would keep the first words waiting.
_LIVE = {"probesize": "4096", "analyzeduration": "0"}

#: FFmpeg's demuxers of formats without a signature, by format.
_DEMUXERS = {"mp3": "mp3", "aac": "aac", "ac3": "ac3", "gsm": "gsm", "g722": "g722", "g729": "g729"}

#: Formats whose header may come again at the start of a chunk, from clients that start their recorder anew.
_RESTARTED = frozenset({"WebM", "Matroska", "MP4", "Ogg"})

_places = threading.BoundedSemaphore(_MAX_THREADS)


class CodedDecoder:
    """Decodes one stream into float32 mono at `rate` Hz. Call `close` at last, whatever happened."""

    def __init__(self, kind: formats.AudioFormat, rate: int) -> None:
        self._kind = kind
        self._rate = rate
        self._head = b""
        self._reader: _Reader | None = None
        self._content: Content | None = None
        self._failure: ServiceError | None = None
        self._ended = 0.0  # seconds of recordings that ended inside this stream

    @property
    def received(self) -> int:
        """The number of samples at the decoder's rate for the input so far."""
        return round((self._ended + (self._reader.seconds if self._reader else 0.0)) * self._rate)

    async def decode(self, data: bytes) -> AsyncIterator[Waveform]:
        """Yield what can be decoded so far, about a second at a time.

        Raises BadRequest for a stream that cannot be read, Busy if too many are decoded.
        """
        if self._reader is None:
            self._head += data
            if not self._is_recognisable():
                return
            data, self._head = self._head, b""
            self._reader = self._opened(data)
        elif self._starts_anew(data):
            async for samples in self.finish():
                yield samples
            self.check_whole()
            self._reader = self._opened(data)
        async for samples in self._reader.fed(data):
            yield samples

    async def finish(self) -> AsyncIterator[Waveform]:
        """Yield the rest. What is wrong with the end of the stream is raised by `check_whole`."""
        try:
            if self._reader is None and self._head:
                head, self._head = self._head, b""
                self._reader = self._opened(head)
                async for samples in self._reader.fed(head):
                    yield samples
            if self._reader is not None:
                async for samples in self._reader.fed(None):
                    yield samples
                self._ended += self._reader.seconds
        except ServiceError as error:
            self._failure = error
        finally:
            self.close()
            self._reader = None

    def check_whole(self) -> None:
        """Raise BadRequest for a stream that is damaged, or that ended before its audio began."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread."""
        if self._reader is not None:
            self._reader.close()

    def _is_recognisable(self) -> bool:
        if isinstance(self._kind, formats.Headerless) or len(self._head) >= _MOST_SIGNATURE_BYTES:
            return True
        return len(self._head) >= _SIGNATURE_BYTES and sniff(self._head) is not None

    def _opened(self, data: bytes) -> "_Reader":
        content = sniff(data)
        if content is not None and content.demuxer is not None:
            self._content = content
            return _Reader(content.label, content.demuxer, self._rate)
        demuxer = _DEMUXERS.get(self._kind.name)
        if demuxer is None or (content is not None and content.reader == "none"):
            found = f"; it starts as {content.label}" if content is not None else ""
            raise BadRequest(
                f"format: {self._kind.name} was announced, but the stream does not start with a header of "
                f"{self._kind.label}{found}; a recorder sends its header once, in its first chunk"
            )
        return _Reader(self._kind.label, demuxer, self._rate)

    def _starts_anew(self, data: bytes) -> bool:
        if self._content is None or self._content.label not in _RESTARTED or len(data) < 8:
            return False
        if self._content.label == "MP4":
            return data[4:8] == b"ftyp"
        if self._content.label == "Ogg":
            return data[:4] == b"OggS" and bool(data[5] & 2)
        return data[:4] == b"\x1a\x45\xdf\xa3"


class _Reader:
    """FFmpeg in its thread, between the bytes that come and the waveform that goes."""

    def __init__(self, label: str, demuxer: str, rate: int) -> None:
        if not _places.acquire(blocking=False):
            raise Busy(f"{_MAX_THREADS} streams are being decoded already, the most allowed")
        self._label = label
        self._demuxer = demuxer
        self._mono = Mono(rate)
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()  # for the event loop
        self._changed = threading.Condition()  # for the thread
        self._input: deque[bytes] = deque()
        self._output: deque[Waveform] = deque()
        self._held: list[Samples] = []  # frames that are not in `_output` yet, and their rate
        self._held_rate = 0
        self._starving = self._at_end = self._closed = self._done = False
        self._failure: Exception | None = None
        threading.Thread(target=self._run, name="stream-decoder", daemon=True).start()

    @property
    def seconds(self) -> float:
        """Seconds of audio that were decoded."""
        return self._mono.seconds

    async def fed(self, data: bytes | None) -> AsyncIterator[Waveform]:
        """Give FFmpeg `data`, None for the end, and yield what it makes of it until it needs more."""
        with self._changed:
            if data is None:
                self._at_end = True
            else:
                self._input.append(data)
            self._starving = False
            self._changed.notify()
        while True:
            with self._changed:
                ready = list(self._output)
                self._output.clear()
                is_over = self._done or self._starving
                if ready:
                    self._changed.notify()
                self._news.clear()
            for samples in ready:
                yield samples
            if is_over and not ready:
                break
            if not ready:
                await self._news.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread, which may take a moment."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    # In the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pipe = _Pipe(self._next)
        try:
            with (
                ffmpeg.errors_of(pipe, self._label),
                ffmpeg.opened(pipe, self._demuxer, _LIVE) as container,
            ):
                for samples, rate in ffmpeg.Track(container, self._label).frames():
                    self._hold(samples, rate)
                    if self._closed:
                        return
                self._flush()
                self._put(self._mono.finish())
        except ServiceError as error:
            self._failure = error
            if self._label == MP4.label and not self._mono.seconds:
                self._failure = BadRequest(
                    "audio: this MP4 cannot be decoded while it comes; only fragmented MP4 can, as browsers "
                    f"record it. Send the whole file in one request ({error})"
                )
        except Exception as error:  # noqa: BLE001 - raised in the event loop, where it is reported
            self._failure = error
        finally:
            _places.release()
            with self._changed:
                self._done = True
            self._tell()

    def _next(self, size: int) -> bytes:
        """Wait for the client's next bytes; none at the end."""
        if not self._input:
            # What is decoded goes to the client's session before this thread waits.
            self._flush()
        with self._changed:
            while not self._input and not self._at_end and not self._closed:
                self._starving = True
                self._tell()
                self._changed.wait()
            if self._closed or not self._input:
                return b""
            part, rest = self._input[0][:size], self._input[0][size:]
            if rest:
                self._input[0] = rest
            else:
                self._input.popleft()
            return part

    def _hold(self, samples: Samples, rate: int) -> None:
        """Keep a frame until there is a block, or until FFmpeg waits."""
        if self._held and (rate != self._held_rate or samples.shape[1] != self._held[0].shape[1]):
            self._flush()
        self._held.append(samples)
        self._held_rate = rate
        if sum(map(len, self._held)) >= _BLOCK_SECONDS * rate:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            held: Any = np.concatenate(self._held)
            self._held = []
            self._put(self._mono.add(held, self._held_rate))

    def _put(self, samples: Waveform) -> None:
        with self._changed:
            while len(self._output) >= _MAX_WAITING and not self._closed:
                self._changed.wait()
            self._output.append(samples)
            self._tell()

    def _tell(self) -> None:
        """Let the event loop look; it may have ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._news.set)


class _Pipe:
    """The client's bytes as a file that cannot be rewound."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read
        self.stopped = None
