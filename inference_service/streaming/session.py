"""One stream: its pending audio, and the task that turns it into results."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from inference_service import tracing
from inference_service.audio import Audio
from inference_service.audio.mono import Waveform
from inference_service.engine import Engine
from inference_service.errors import Busy, ServiceError
from inference_service.runtimes.base import Call
from inference_service.streaming.agreement import Agreement
from inference_service.streaming.buffer import PendingAudio, Piece, quietest_point
from inference_service.streaming.chunk import Chunk, StreamResult
from inference_service.streaming.decoder import STREAM_RATE
from inference_service.streaming.decoders import StreamDecoder, decoder_of
from inference_service.streaming.format import StreamFormat
from inference_service.streaming.recognition import Recogniser
from inference_service.tasks import Priority, Task, TaskResult, TranscribeOptions, Transcript

#: Seconds for which a final result waits for a slot on a full node before the stream ends with an error.
_MAX_BUSY_SECONDS = 60.0

#: Seconds of audio with final results that are recognised again with the next audio. With a full buffer of
#: ten seconds they fit into one window of Whisper.
_REMEMBERED_SECONDS = 10.0

Results = list[tuple[Task, TaskResult]]
Emit = Callable[[StreamResult | ServiceError], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How streams are flushed and recognised. `flush_interval_ms` 0: never by time."""

    flush_interval_ms: int
    max_buffer_ms: int
    speech: TranscribeOptions = field(default_factory=TranscribeOptions)


class Session:
    """One stream's audio and its results, both in order.

    Pending audio never exceeds `max_buffer_ms`. When it reaches that limit, the audio up to the quietest
    point of its last half gets a final result, and the rest stays pending. So every sample is in exactly one
    final result. `feed` waits, and the client with it, while a full buffer is recognised. Speech is
    recognised together with the audio around it; the session keeps the last audio that has a final result for
    that.

    With a flush interval, pending audio gets a partial result whenever the interval has passed and there is
    new audio; a busy node stretches the interval. Partial results are drafts. Once two in a row agree, later
    audio without sound needs no further one, and the final result is that text. A final result that is due
    cancels a partial one under way. While nothing is pending, no task runs and no timer is set.
    """

    def __init__(
        self,
        stream_id: str,
        engine: Engine,
        recogniser: Recogniser,
        options: StreamOptions,
        call: Call,
        emit: Emit,
    ) -> None:
        """Results go to `emit`, in order, and so do the errors that `feed` does not raise."""
        self._stream_id = stream_id
        self._engine = engine
        self._recogniser = recogniser
        self._options = options.speech
        self._call = call
        self._emit = emit
        self._limit = options.max_buffer_ms * STREAM_RATE // 1000
        self._interval = options.flush_interval_ms / 1000
        self._format = StreamFormat()
        self._decoder: StreamDecoder | None = None
        self._pending = PendingAudio(round(_REMEMBERED_SECONDS * STREAM_RATE))
        self._border = 0.0  # seconds from the first pending sample to the first pending word
        self._sequence = 0
        self._base = 0  # samples of the stream before the decoder's first
        self._room = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._partial_due = False
        self._something_new = False
        self._flushed_at: float | None = None  # the loop's time of the last result, or of the first audio
        self._due_at: float | None = None  # the loop's time since which a final result is due
        self._partial: asyncio.Task[Results] | None = None
        self._agreement = Agreement()
        self._has_text = False  # the stream has had words

    @property
    def held(self) -> int:
        """Bytes of the audio that the stream holds."""
        return self._pending.nbytes

    async def feed(self, chunk: Chunk) -> None:
        """Accept a chunk. Returns when there is room for the next one.

        Raises BadRequest for an invalid chunk (earlier audio stays pending), and the errors of an inference
        if the chunk changes the format or ends the stream.
        """
        format = self._format.changed_by(chunk)
        for task in format.tasks:
            self._engine.check_offered(task)
        if not format.same_audio(self._format) or format.tasks != self._format.tasks:
            await self.finish()
        self._format = format
        self._sequence = chunk.sequence
        if chunk.meeting_id and not self._call.meeting_id:
            self._call = replace(self._call, meeting_id=chunk.meeting_id)
        if chunk.data:
            self._decoder = self._decoder or decoder_of(self._format)
            async for samples in self._decoder.decode(chunk.data):
                await self._append(samples, self._base + self._decoder.received)

    async def finish(self) -> None:
        """Give all pending audio its final result. The next chunk may have another format.

        Raises the errors of an inference, and BadRequest if the audio is not whole.
        """
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            async for samples in decoder.finish():
                await self._append(samples, self._base + decoder.received)
            self._base = self._pending.end
        self._final_is_due()
        while self._work is not None:
            await asyncio.wait({self._work})
        self._stop_timer()
        if len(self._pending):
            await self._flush(len(self._pending), self._sequence)
        self._due_at = None
        self._pending.forget()
        self._border = 0.0
        if decoder is not None:
            decoder.check_whole()

    async def close(self) -> None:
        """Drop the pending audio and cancel the running work."""
        self._stop_timer()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})
        # A cancelled task lives until the garbage collector runs.
        self._pending = PendingAudio()
        if self._decoder is not None:
            self._decoder.close()

    async def _append(self, samples: Waveform, end: int) -> None:
        while len(samples):
            while (space := self._limit - len(self._pending)) <= 0:
                self._room.clear()
                await self._room.wait()
            self._pending.append(samples[:space])
            self._pending.mark(end, self._sequence)
            samples = samples[space:]
            self._something_new = True
            if len(self._pending) >= self._limit:
                self._final_is_due()
            if self._work is None:
                if len(self._pending) >= self._limit:
                    self._start_work()
                else:
                    self._start_timer()

    def _start_timer(self) -> None:
        if not self._interval or self._timer is not None or not self._something_new:
            return
        loop = asyncio.get_running_loop()
        if self._flushed_at is None:
            self._flushed_at = loop.time()
        interval = self._recogniser.pace.interval(self._interval) if self._has_text else self._interval
        self._timer = loop.call_at(self._flushed_at + interval, self._flush_by_time)

    def _stop_timer(self) -> None:
        self._partial_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush_by_time(self) -> None:
        self._timer = None
        self._partial_due = True
        if self._work is None:
            self._start_work()

    def _final_is_due(self) -> None:
        """Final results go first: a partial one under way would hold this one up."""
        if self._due_at is None:
            self._due_at = asyncio.get_running_loop().time()
        if self._partial is not None:
            self._partial.cancel()

    def _start_work(self) -> None:
        self._work = asyncio.create_task(self._work_off())

    async def _work_off(self) -> None:
        try:
            while True:
                if len(self._pending) >= self._limit:
                    count = quietest_point(self._pending.copy())
                    await self._flush(count, self._pending.sequence_of(count))
                elif self._partial_due:
                    await self._flush_partially()
                else:
                    break
            self._work = None
            self._start_timer()
        except ServiceError as error:
            await self._emit(error)
        finally:
            self._work = None

    async def _flush(self, count: int, sequence: int) -> None:
        piece = replace(self._pending.take(count), border=self._border)
        self._room.set()
        self._something_new = len(self._pending) > 0
        if self._format.tasks == (Task.ASR,) and (settled := self._agreement.of_piece(piece)) is not None:
            results: Results = [(Task.ASR, settled)]
        else:
            results = await self._infer_patiently(piece)
        self._agreement = Agreement()
        now = self._flushed_at = asyncio.get_running_loop().time()
        if self._due_at is not None:
            self._engine.streams.note_lag(now - self._due_at)
        self._due_at = now if len(self._pending) >= self._limit else None
        await self._emit_all(results, sequence, is_final=True)

    async def _flush_partially(self) -> None:
        self._partial_due = self._something_new = False
        begun = (loop := asyncio.get_running_loop()).time()
        sequence = self._pending.sequence_of(len(pending := self._pending.copy()))
        if self._format.tasks == (Task.ASR,) and self._agreement.settled(pending) is not None:
            self._flushed_at = begun
            return
        work = self._infer(Piece(pending), is_partial=True)
        self._partial = asyncio.create_task(tracing.as_event("partial", work))
        results: Results = []
        try:
            with suppress(Busy):  # a full node gives final results only
                results = await self._partial
        except asyncio.CancelledError:
            if self._work is None or self._work.cancelling():
                raise  # the session is closed; else a final result is due
        finally:
            self._partial = None
        for _, data in results:
            if isinstance(data, Transcript):
                self._agreement.add(data, len(pending))
        # On a slow node partial results become rarer: they take at most half of a stream's time.
        took = loop.time() - begun
        self._flushed_at = max(begun, loop.time() + took - self._interval)
        await self._emit_all(results, sequence, is_final=False)

    async def _emit_all(self, results: Results, sequence: int, *, is_final: bool) -> None:
        for task, data in results:
            self._has_text |= isinstance(data, Transcript) and bool(data.text)
            await self._emit(StreamResult(self._stream_id, sequence, task, data, is_final, time.time()))

    async def _infer_patiently(self, piece: Piece) -> Results:
        """Infer, and retry while the node is full. The client waits meanwhile, and no audio is lost."""
        give_up = (loop := asyncio.get_running_loop()).time() + _MAX_BUSY_SECONDS
        while True:
            try:
                return await self._infer(piece)
            except Busy as busy:
                if loop.time() + busy.retry_after > give_up:
                    raise
                # Random, so that streams that were refused together do not retry together.
                await asyncio.sleep(busy.retry_after * random.uniform(0.5, 1.0))

    async def _infer(self, piece: Piece, *, is_partial: bool = False) -> Results:
        tasks = self._format.tasks
        do = self._do_partially if is_partial else self._do
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(do(task, piece)) for task in tasks]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [(task, done.result()) for task, done in zip(tasks, running, strict=True)]

    async def _do_partially(self, task: Task, piece: Piece) -> TaskResult:
        if task is Task.ASR:
            language = self._options.language or self._agreement.language
            options = replace(self._options, language=language)
            return await self._recogniser.draft(piece.samples, options, self._call, first=not self._has_text)
        return await self._engine.run(task, audio=Audio(piece.samples, STREAM_RATE), call=self._call)

    async def _do(self, task: Task, piece: Piece) -> TaskResult:
        call = replace(self._call, priority=Priority.LIVE)
        if task is Task.ASR and (piece.before or piece.after):
            heard = await self._recogniser.transcribe(piece, self._options, call)
            self._border = heard.next_border
            return heard.transcript
        audio = Audio(piece.samples, STREAM_RATE)
        return await self._engine.run(task, audio=audio, options=self._options, call=call)
