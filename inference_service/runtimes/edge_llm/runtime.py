"""The Edge-LLM runtime: the tasks as sessions of units behind a unit manager."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from inference_service.audio import Audio
from inference_service.errors import BadRequest, Busy, RuntimeTimeout, ServiceError, Unsupported
from inference_service.model_cards import ModelDescription, ModelRole
from inference_service.runtimes.base import Call, Readiness, refuse_options
from inference_service.runtimes.edge_llm import answers
from inference_service.runtimes.edge_llm.answers import Answer
from inference_service.runtimes.edge_llm.frames import Framing
from inference_service.runtimes.edge_llm.payload import audio_payload
from inference_service.runtimes.edge_llm.pool import SessionPool
from inference_service.runtimes.edge_llm.probe import Probe
from inference_service.runtimes.edge_llm.session import Session
from inference_service.settings import Settings
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    SynthesisResult,
    Task,
    TranscribeOptions,
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Seconds that `readiness` gives the unit manager to answer, and after that the models' setups.
PROBE_TIME: Final = 0.6
SETUP_TIME: Final = 0.2

#: Failed checks in a row after which the llm node counts as restarted. It does not report a restart, and a
#: request over a session that it has lost takes the whole time limit.
OUTAGE: Final = 2

#: Seconds from a refused setup to the next attempt.
RETRY_AFTER: Final = 5.0


#: Of emotion in audio, which the runtime detects in the recognised text.
_WORDS_ONLY: Final = "the emotion of the words that were recognised; the voice itself is not heard"


class EdgeLlmRuntime:
    """`Runtime` for a unit manager and its llm node.

    Units detect emotion in text only; for audio, the runtime first recognises the speech, as the original
    service did.
    """

    name = "edge-llm"
    window_seconds: float | None = None

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = monotonic) -> None:
        """`clock` returns seconds; it measures how long sessions are idle."""
        edge, request = settings.ai.runtime.edge_llm, settings.ai.request
        self._models = settings.ai.models
        self._edge = edge
        self._framing = Framing(
            request.max_single_delta_len,
            request.audio_stream_chunk_size,
            request.audio_stream_chunk_delay_ms / 1000,
        )
        self.capabilities: frozenset[Task] = settings.ai.models.tasks
        self.pool = SessionPool(
            self._open,
            max_sessions=edge.max_sessions,
            idle_timeout=edge.session_idle_timeout,
            clock=clock,
            on_lost=self._note_lost,
        )
        self.address = edge.address
        self._newest = -1  # number of the latest work id since the unit manager's last restart
        self._left_behind: dict[int, str] = {}  # work ids, by number, of units that got no exit message
        self._dismissing = asyncio.Lock()  # held while these units exit
        self._probe = Probe(edge.address, self._framing.delay, PROBE_TIME)
        self._outage = 0  # failed checks in a row
        self._generation = 0
        self._proofs: dict[Task, asyncio.Task[None]] = {}
        self._refused: dict[Task, tuple[float, str]] = {}
        self._expiry: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to close idle sessions. The first request or readiness check opens connections."""
        self._expiry = asyncio.create_task(self._expire())

    async def close(self) -> None:
        """End every session, without waiting long for the units."""
        tasks = [task for task in (self._expiry, *self._proofs.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._probe.close()
        await self.pool.close()

    async def readiness(self) -> Readiness:
        """Whether the unit manager and the llm node answer now and every configured model was set up.

        The first check after a start of the unit manager sets the models up; requests without a meeting id
        use these sessions.
        """
        try:
            await self._probe.check()
        except ServiceError as error:
            self._outage += 1
            if self._outage == OUTAGE:
                self.pool.disown_idle()
                self._forget_proofs()
            return Readiness(False, [str(error)])
        self._outage = 0
        if self._generation != self._probe.generation:
            self._generation = self._probe.generation
            self._forget_proofs()
        problems = await self._prove_models()
        return Readiness(not problems, problems)

    def known(self, role: ModelRole) -> ModelDescription:
        """The model's name: units say nothing of their models."""
        return ModelDescription(
            name=self._models.for_task(role.task).model_name,
            method="a unit of Edge-LLM's llm node",
            caveat=_WORDS_ONLY if role is ModelRole.EMOTION else None,
        )

    async def describe(self, role: ModelRole) -> ModelDescription:
        """As `known`; nobody can be asked for more."""
        return self.known(role)

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Open the meeting's session with the task's model."""
        model = self._model(task)

        async def set_up(session: Session) -> None:
            """The session is open; nothing more to do."""

        await self._run(task, call, set_up)
        return ModelStatus(model_name=model, ready=True, model_path=self._models.for_task(task).model_path)

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text; units give no segments."""
        refuse_options(options, "an Edge-LLM node")
        answer = await self._ask(Task.ASR, audio, call)
        return DetailedTranscript(answers.transcript(answer, options.language, audio.duration_ms))

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The emotion of the spoken words: speech recognition, then the emotion of its text."""
        self._model(Task.EMOTION)
        if Task.ASR not in self.capabilities:
            raise Unsupported("an Edge-LLM node detects emotion in text, and its speech recognition is off")
        heard = await self._ask(Task.ASR, audio, call)
        answer = await self._ask(Task.EMOTION, heard.get(str, "transcription", "text"), call)
        return answers.emotion(answer, audio.duration_ms)

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        """The emotion of a text."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRequest("text: not Unicode text (it has half a surrogate pair)") from None
        return answers.emotion(await self._ask(Task.EMOTION, text, call), duration_ms=0)

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic."""
        answer = await self._ask(Task.SYNTHESIS, audio, call)
        return answers.synthesis(answer, audio.duration_ms)

    def _model(self, task: Task) -> str:
        if task not in self.capabilities:
            raise Unsupported(f"{task} is switched off on this node (ai.models.{task.model}.enabled)")
        return self._models.for_task(task).model_name

    async def _ask(self, task: Task, source: Audio | str, call: Call) -> Answer:
        model = self._model(task)
        # In a thread: the time for this grows with the audio.
        pieces = await asyncio.to_thread(self._pieces, source)

        async def infer(session: Session) -> str:
            text = await session.infer(pieces, self._framing.delay)
            self.pool.drop_lost()  # a restart also broke the connections of idle sessions
            if (self._left_behind or self._dismissing.locked()) and await session.is_shared():
                async with self._dismissing:  # concurrent requests wait here, and infer again too
                    await session.dismiss(self._take_left_behind())
                text = await session.infer(pieces, self._framing.delay)
            return text

        return Answer(model, await self._run(task, call, infer, frames=len(pieces)))

    def _pieces(self, source: Audio | str) -> list[str]:
        return self._framing.cut(source if isinstance(source, str) else audio_payload(source))

    async def _run(
        self, task: Task, call: Call, work: Callable[[Session], Awaitable[_T]], frames: int = 0
    ) -> _T:
        """Run `work` with the meeting's session for the task, within the call's and the model's limit."""
        model = self._model(task)
        has_session = False

        async def noting(session: Session) -> _T:
            nonlocal has_session
            has_session = True
            return await work(session)

        limits = (call.timeout, self._models.for_task(task).timeout)
        limit = min(seconds for seconds in limits if seconds is not None)
        try:
            async with asyncio.timeout(limit):
                return await self.pool.run(call.meeting_id, model, noting)
        except TimeoutError:
            if not has_session:
                raise Busy(
                    f"{task}: no Edge-LLM session with {model} became free within {limit:g} s"
                ) from None
            raise RuntimeTimeout(self._too_slow(task, limit, frames)) from None

    def _too_slow(self, task: Task, limit: float, frames: int) -> str:
        reason = f"{task} took longer than {limit:g} s"
        sending = max(0, frames - 1) * self._framing.delay
        if sending > limit / 2:
            reason += (
                f" ({frames} frames at ai.request.audio_stream_chunk_delay_ms "
                f"{self._framing.delay * 1000:g} take {sending:.0f} s to send)"
            )
        return reason

    async def _open(self, model: str) -> Session:
        edge = self._edge
        session = await Session.open(
            edge.address, model, connect_timeout=edge.connect_timeout, answer_timeout=edge.timeout
        )
        self._newest = session.number
        return session

    # Units from before a restart of the unit manager -----------------------------------------------------

    def _note_lost(self, session: Session) -> None:
        self._left_behind[session.number] = session.work_id

    def _take_left_behind(self) -> list[str]:
        """Work ids of orphaned units that still run. A number up to the newest was assigned again since then,
        which ended the orphaned unit: an exit message to it would end the new one."""
        left = [work_id for number, work_id in self._left_behind.items() if number > self._newest]
        self._left_behind.clear()
        return left

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(30.0, self._edge.session_idle_timeout / 4))
            self.pool.expire_idle()

    # Readiness of the models ----------------------------------------------------------------------------

    def _forget_proofs(self) -> None:
        for task in self._proofs.values():
            task.cancel()
        self._proofs.clear()
        self._refused.clear()

    async def _prove_models(self) -> list[str]:
        """Set up the models that are not yet set up; a line for each that is not ready."""
        for task in self.capabilities - self._proofs.keys():
            refused_at, _ = self._refused.get(task, (-RETRY_AFTER, ""))
            if monotonic() - refused_at >= RETRY_AFTER:
                self._proofs[task] = asyncio.create_task(self._prove(task))
        if running := {proof for proof in self._proofs.values() if not proof.done()}:
            await asyncio.wait(running, timeout=SETUP_TIME)
        return [problem for task in sorted(self.capabilities) if (problem := self._problem(task))]

    async def _prove(self, task: Task) -> None:
        try:
            await self.warm(task, Call(request_id="readiness"))
            self._refused.pop(task, None)
        except Busy:
            self._refused.pop(task, None)  # all sessions are in use, so setups work
        except ServiceError as error:
            self._refused[task] = (monotonic(), str(error))
            _log.warning("model not ready", extra={"model": self._model(task), "reason": str(error)})
            self._proofs.pop(task, None)

    def _problem(self, task: Task) -> str | None:
        model = self._model(task)
        if task in self._refused:
            return f"{task.model}: {model}: {self._refused[task][1]}"
        proof = self._proofs.get(task)
        if proof is None or not proof.done():
            return f"{task.model}: {model} is being set up"
        return None
