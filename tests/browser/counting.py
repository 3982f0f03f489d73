"""A runtime for tests of pages: what it hears follows from the length of the audio."""

from __future__ import annotations

from inference_service.audio import Audio
from inference_service.model_cards import ModelDescription, ModelRole
from inference_service.runtimes.base import Call
from inference_service.tasks import (
    DetailedTranscript,
    ModelKind,
    Segment,
    TranscribeOptions,
    Transcript,
    Word,
)
from tests.service.conftest import DoubleRuntime

CAVEATS = {ModelRole.EMOTION: "it cannot tell joy from anger", ModelRole.SYNTHESIS: "neural voices pass"}


class Counting(DoubleRuntime):
    """Stands in for the models: in every half second of audio it hears one word, `word-1.` and so on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_timed = True
        # One that answers in no time is asked less often as soon as a busy machine makes it take some.
        self.delay = 0.05
        self.cards = {
            ModelRole.ASR: ModelDescription(name="counting", languages=["en", "de", "fr"]),
            **{
                role: ModelDescription(name=role, kind=ModelKind.RULE, caveat=caveat)
                for role, caveat in CAVEATS.items()
            },
        }

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        self.audios.append(audio)
        self.options.append(options)
        await self._work(call)
        words = [
            Word(f"word-{number + 1}.", number / 2, number / 2 + 0.4, 0.9)
            for number in range(int(audio.seconds * 2))
        ]
        text = " ".join(word.word for word in words)
        heard = Transcript(text, 0.9, options.language or "en", audio.duration_ms)
        own = words if options.word_timestamps else None
        segments = [Segment(0, 0.0, audio.seconds, text, -0.2, 0.1, own)] if words and self.is_timed else []
        return DetailedTranscript(heard, segments)
