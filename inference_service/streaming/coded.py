"""Decodes a stream that FFmpeg reads: what browsers' recorders send, and the codings of telephony.

FFmpeg asks for bytes when it needs them, so each stream has a process, which waits for the next chunk.
"""

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from inference_service import audio_formats as formats
from inference_service.audio import isolated, messages
from inference_service.audio.jobs import Job
from inference_service.audio.mono import Waveform
from inference_service.audio.sniff import MP4, Content, sniff
from inference_service.errors import BadRequest, ServiceError

#: Bytes of a stream in which its signature is looked for, at least and at most: MPEG's comes every 188 bytes.
_SIGNATURE_BYTES, _MOST_SIGNATURE_BYTES = 64, 1024

#: Seconds that no stream lasts.
_ENDLESS = 1e9

#: FFmpeg's demuxers of formats without a signature, by format.
_DEMUXERS = {"mp3": "mp3", "aac": "aac", "ac3": "ac3", "gsm": "gsm", "g722": "g722", "g729": "g729"}

#: Formats whose header may come again at the start of a chunk, from clients that start their recorder anew.
_RESTARTED = frozenset({"WebM", "Matroska", "MP4", "Ogg"})


class CodedDecoder:
    """Decodes one stream into float32 mono at `rate` Hz. Call `close` at last, whatever happened."""

    def __init__(self, kind: formats.AudioFormat, rate: int) -> None:
        self._kind = kind
        self._rate = rate
        self._head = b""
        self._reader: _Reader | None = None
        self._content: Content | None = None
        self._failure: ServiceError | None = None
        self._ended = 0  # samples of recordings that ended inside this stream

    @property
    def received(self) -> int:
        """The number of samples at the decoder's rate for the input so far."""
        return self._ended + (self._reader.samples if self._reader else 0)

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
                self._ended += self._reader.samples
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
        """End the process."""
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
    """FFmpeg in a process of its own, between the bytes that come and the waveform that goes."""

    def __init__(self, label: str, demuxer: str, rate: int) -> None:
        self._job = Job("stream", demuxer, label, rate, _ENDLESS)
        self._decoder: isolated.Decoder | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.samples = 0

    async def fed(self, data: bytes | None) -> AsyncIterator[Waveform]:
        """Give FFmpeg `data`, None for the end, and yield what it makes of it until it needs more."""
        if self._streams is None:
            self._streams = await self._started()
        reader, writer = self._streams
        try:
            if data is None:
                writer.write(messages.packed(messages.END))
            else:
                for start in range(0, len(data), messages.MAX_CONTENT):
                    part = data[start : start + messages.MAX_CONTENT]
                    writer.write(messages.packed(messages.DATA, part))
            while True:
                kind, length = messages.unpacked(await reader.readexactly(messages.HEADER_BYTES))
                content = await reader.readexactly(length)
                if kind == messages.ERROR:
                    raise self._failure(
                        isolated.error_of(content, BadRequest("the stream is not recognised"))
                    )
                if kind != messages.BLOCK:
                    return  # FFmpeg needs more, or is done
                samples = np.frombuffer(content, np.float32)
                self.samples += len(samples)
                yield samples
        except (asyncio.IncompleteReadError, OSError):
            assert self._decoder is not None
            raise self._decoder.failed() from None

    def close(self) -> None:
        """End the process."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        if self._decoder is not None:
            self._decoder.close()

    async def _started(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        starting = asyncio.get_running_loop().run_in_executor(None, isolated.Decoder, self._job)
        try:
            self._decoder = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_close)
            raise
        connection = self._decoder.connection
        assert connection is not None
        connection.setblocking(False)
        return await asyncio.open_connection(sock=connection)

    def _failure(self, error: ServiceError) -> ServiceError:
        if self._job.label != MP4.label or self.samples:
            return error
        return BadRequest(
            "audio: this MP4 cannot be decoded while it comes; only fragmented MP4 can, as browsers record "
            f"it. Send the whole file in one request ({error})"
        )


def _close(starting: asyncio.Future[isolated.Decoder]) -> None:
    """End a decoder that nobody waits for any more."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result().close()
