"""What every entrance calls to infer: admission, deadline, runtime, metrics.

Entrances (HTTP, gRPC, WebSocket) parse and format. At the start of a request they call `Engine.accept`; for
each inference they await `run` or `transcribe`, which raise only `errors.ServiceError`s. Cancelling the
awaiting task releases its slot and cancels the runtime's work.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from time import monotonic, perf_counter
from typing import TypeVar

from inference_service import metrics, tracing
from inference_service.admission import Admission, Streams
from inference_service.audio import Audio
from inference_service.budget import Budget
from inference_service.errors import (
    BadRequest,
    Draining,
    NotReady,
    RuntimeFailed,
    RuntimeTimeout,
    ServiceError,
    StoreFailed,
    TooLarge,
)
from inference_service.model_cards import ModelRole
from inference_service.offer import Offer
from inference_service.readiness import ReadinessCheck
from inference_service.results import Analysis, ResultStore
from inference_service.runtimes.base import Call, Readiness, Runtime
from inference_service.settings import Settings
from inference_service.tasks import (
    DetailedTranscript,
    ModelStatus,
    Priority,
    Task,
    TaskResult,
    TranscribeOptions,
)
from inference_service.windows import Window, cut, in_turn, joined

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Seconds of the windows of a transcript that is wanted in parts, of a runtime that has no windows.
_WINDOW_SECONDS = 30.0


class Engine:
    """One worker's inference: the runtime behind admission, deadlines and metrics."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        """`settings` are this worker's: its limits are its shares of the node's (`settings.shares`)."""
        server = settings.server
        self.settings = settings
        self.runtime = runtime
        self.offer = Offer(settings.ai.models, runtime)
        #: True once the process stops: entrances refuse new requests, running ones finish.
        self.draining = False
        self._drained_at = 0.0
        self._when_draining: list[Callable[[], None]] = []
        self.admission = Admission(
            server.max_concurrency,
            server.max_queue,
            server.queue_timeout,
            {
                task: limit
                for task in Task
                if (limit := settings.ai.models.for_task(task).max_concurrent) is not None
            },
        )
        # Recordings of several windows. Each of their windows takes a slot of `admission`.
        self.recordings = Admission(
            server.max_concurrency,
            server.max_queue,
            server.queue_timeout,
            running=metrics.RECORDINGS_RUNNING,
            queued=metrics.RECORDINGS_QUEUED,
        )
        self.streams = Streams(server.max_streams, settings.ai.streaming.max_lag)
        self.budget = Budget(settings.byte_budget)
        self.results = ResultStore(server.directory, max_entries=server.results_max, ttl=server.results_ttl)
        self._readiness = ReadinessCheck(runtime)

    @property
    def capabilities(self) -> frozenset[Task]:
        """The tasks that this node offers."""
        return self.offer.tasks

    async def start(self) -> None:
        """Start the runtime. Does not fail when it is unreachable: `readiness` reports that."""
        await self.runtime.start()

    async def close(self) -> None:
        """Release the runtime and the result store."""
        self._readiness.close()
        await self.runtime.close()
        await self.results.close()

    def drain(self) -> None:
        """Refuse new requests; running ones have `server.shutdown_grace` seconds to finish."""
        if not self.draining:
            self.draining = True
            self._drained_at = monotonic()
            for act in self._when_draining:
                act()

    def when_draining(self, act: Callable[[], None]) -> None:
        """Call `act` in the event loop when the node begins to drain."""
        self._when_draining.append(act)

    def grace_left(self) -> float:
        """Seconds that running requests have left: the whole grace time unless the node drains."""
        grace = self.settings.server.shutdown_grace
        return max(0.0, grace - (monotonic() - self._drained_at)) if self.draining else grace

    def accept(self) -> None:
        """Raise Draining or Busy if a new request would be refused; call it before reading the body."""
        if self.draining:
            raise Draining("the node is stopping and takes no new requests")
        self.admission.check()

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text, with segments where the runtime gives them.

        Audio of any length: the time limit of the model is that of one window.
        """
        self.check_offered(Task.ASR)
        longest = self.runtime.window_seconds
        if longest is None or audio.seconds <= longest:
            return await self._transcribe_window(audio, options, call)
        async with aclosing(self._in_windows(audio, options, call, longest)) as windows:
            parts = [heard async for heard in windows]
        return joined(parts, audio.duration_ms)

    async def transcribe_in_parts(
        self, audio: Audio, options: TranscribeOptions, call: Call
    ) -> AsyncGenerator[DetailedTranscript]:
        """Speech to text, window by window; times are those of the whole audio. Close the iterator."""
        self.check_offered(Task.ASR)
        longest = self.runtime.window_seconds or _WINDOW_SECONDS
        if audio.seconds <= longest:
            yield await self._transcribe_window(audio, options, call)
            return
        async with aclosing(self._in_windows(audio, options, call, longest)) as windows:
            async for heard in windows:
                yield heard

    async def _in_windows(
        self, audio: Audio, options: TranscribeOptions, call: Call, longest: float
    ) -> AsyncGenerator[DetailedTranscript]:
        """Transcripts of windows of at most `longest` seconds, in order, with times in `audio`."""
        limit = self.settings.ai.request.recording_timeout
        limit = limit if call.timeout is None else min(limit, call.timeout)
        deadline = asyncio.get_running_loop().time() + limit
        call = replace(call, timeout=None, priority=Priority.LONG)

        async def recognise(window: Window, options: TranscribeOptions) -> DetailedTranscript:
            try:
                async with asyncio.timeout_at(deadline):
                    part = audio.parts(window.ranges)
                    return await self._transcribe_window(part, options, call, patient=True)
            except TimeoutError:
                raise RuntimeTimeout(f"the recording took longer than {limit:g} s") from None

        async with self.recordings.slot(Task.ASR):
            windows = await asyncio.to_thread(cut, audio, longest)
            at_once = self.settings.ai.models.asr.windows_at_once
            async with aclosing(in_turn(windows, options, recognise, at_once=at_once)) as transcripts:
                async for heard in transcripts:
                    yield heard

    async def _transcribe_window(
        self, audio: Audio, options: TranscribeOptions, call: Call, *, patient: bool = False
    ) -> DetailedTranscript:
        role = ModelRole.ASR
        heard = await self._infer(
            role, audio, lambda: self.runtime.transcribe(audio, options, call), call, patient=patient
        )
        return replace(heard, transcript=self.offer.described(heard.transcript, role))

    async def run(
        self,
        task: Task,
        *,
        audio: Audio | None = None,
        text: str | None = None,
        options: TranscribeOptions | None = None,
        call: Call,
    ) -> TaskResult:
        """Do `task` on `audio`, or emotion detection on `text` (exactly one of the two is given).

        `options` matter to speech recognition alone. Raises BadRequest where the task cannot take the text,
        TooLarge, Unsupported, Busy, NotReady, RuntimeFailed, RuntimeTimeout.
        """
        role = ModelRole.of(task, text=audio is None and task is Task.EMOTION)
        self.offer.check(role)
        if audio is None:
            if text is None or task is not Task.EMOTION:
                raise BadRequest(f"{task} needs audio")
            most = self.settings.ai.request.max_text_characters
            if len(text) > most:
                raise TooLarge(f"text: {len(text)} characters are given; at most {most} are allowed")
            read = await self._infer(role, None, lambda: self.runtime.emotion_of_text(text, call), call)
            return self.offer.described(read, role)
        if task is Task.ASR:
            detailed = await self.transcribe(audio, options or TranscribeOptions(), call)
            return detailed.transcript
        if task is Task.EMOTION:
            felt = await self._infer(role, audio, lambda: self.runtime.emotion_of_audio(audio, call), call)
            return self.offer.described(felt, role)
        found = await self._infer(role, audio, lambda: self.runtime.detect_synthesis(audio, call), call)
        return self.offer.described(found, role)

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Load the task's model. An error is returned in the status, not raised."""
        model = self.settings.ai.models.for_task(task)
        limit = self._time_limit(task, call)
        try:
            self.check_offered(task)
            async with asyncio.timeout(limit):
                await self.offer.check_kind(ModelRole.of(task))
                return await self.runtime.warm(task, call)
        except TimeoutError:
            reason = f"not ready within {limit:g} s"
        except ServiceError as error:
            reason = str(error)
        return ModelStatus(model.model_name, ready=False, model_path=model.model_path, error=reason)

    async def readiness(self) -> Readiness:
        """Whether this node can answer now, at most a second old. A draining node cannot."""
        if self.draining:
            return Readiness(False, ["draining: the node is stopping"])
        return await self._readiness.now()

    async def remember(self, analysis: Analysis) -> None:
        """Store a result under its task id. A failure is logged: the client has the result all the same."""
        try:
            await self.results.put(analysis)
        except StoreFailed as error:
            _log.error("a result is not stored: %s", error, extra={"task_id": analysis.task_id})

    def check_offered(self, task: Task) -> None:
        """Raise Unsupported if this node does not offer `task` on audio."""
        self.offer.check(ModelRole.of(task))

    def _time_limit(self, task: Task, call: Call) -> float:
        limits = (
            call.timeout,
            self.settings.ai.request.timeout,
            self.settings.ai.models.for_task(task).timeout,
        )
        return min(limit for limit in limits if limit is not None)

    async def _infer(
        self,
        role: ModelRole,
        audio: Audio | None,
        work: Callable[[], Awaitable[_T]],
        call: Call,
        *,
        patient: bool = False,
    ) -> _T:
        """Run `work`, a call to the model in this role, once admitted and within the time limit."""
        await self.offer.check_kind(role)
        task = role.task
        async with self.admission.slot(task, call.priority, patient=patient):
            limit = self._time_limit(task, call)
            outcome = "cancelled"
            begun = perf_counter()
            try:
                seconds = 0.0 if audio is None else audio.seconds
                model = self.settings.ai.models.name_of(role)
                with tracing.inference(model, task, self.runtime.name, seconds):
                    async with asyncio.timeout(limit):
                        answer = await work()
                outcome = "ok"
            except TimeoutError:
                outcome = RuntimeTimeout.__name__
                raise RuntimeTimeout(f"{task} took longer than {limit:g} s") from None
            except ServiceError as error:
                outcome = type(error).__name__
                if isinstance(error, NotReady | RuntimeFailed):
                    extra = {"request_id": call.request_id, "runtime": self.runtime.address}
                    _log.warning("an inference failed: %s", error, extra=extra)
                raise
            finally:
                metrics.RUNTIME_SECONDS.labels(self.runtime.name, task, outcome).observe(
                    perf_counter() - begun
                )
            if audio is not None:
                metrics.AUDIO_SECONDS.labels(task).inc(audio.seconds)
            return answer
