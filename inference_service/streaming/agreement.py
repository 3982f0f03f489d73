"""Partial results that agree: what is settled needs no further recognition.

As LocalAgreement in streaming Whisper: a text counts as settled once two hypotheses in a row have it. Later
audio without sound does not change it, so the final result can use it.
"""

from dataclasses import dataclass

import msgspec

from inference_service.audio import Audio
from inference_service.audio.mono import Waveform
from inference_service.streaming.buffer import Piece
from inference_service.streaming.decoder import STREAM_RATE
from inference_service.tasks import UNDETERMINED, Transcript
from inference_service.windows.sound import frame_size, is_sound, levels


@dataclass(slots=True)
class Agreement:
    """The last hypotheses about the pending audio, which begins where they begin."""

    _last: Transcript | None = None
    _heard: int = 0  # samples of the pending audio that the last hypothesis is about
    _agreed: bool = False

    def add(self, hypothesis: Transcript, samples: int) -> None:
        """A new hypothesis about the first `samples` of the pending audio."""
        self._agreed = self._last is not None and self._last.text == hypothesis.text
        self._last, self._heard = hypothesis, samples

    @property
    def language(self) -> str | None:
        """The language of the last hypothesis with a text: drafts that follow need not detect it."""
        if self._last is None or not self._last.text or self._last.language == UNDETERMINED:
            return None
        return self._last.language

    def settled(self, pending: Waveform) -> Transcript | None:
        """The settled transcript of all `pending` audio; None where it has to be recognised."""
        if self._last is None or not self._agreed:
            return None
        if len(pending) > self._heard:
            audio = Audio(pending, STREAM_RATE)
            # The frame in which the hypothesis ended may have been heard in part.
            if is_sound(levels(audio))[self._heard // frame_size(audio) :].any():
                return None
        return self._last

    def of_piece(self, piece: Piece) -> Transcript | None:
        """The settled transcript of a stream's only piece. Pieces of a longer stream share words, which
        hypotheses about one of them do not tell apart."""
        if piece.before or piece.after or (found := self.settled(piece.samples)) is None:
            return None
        duration_ms = Audio(piece.samples, STREAM_RATE).duration_ms
        return msgspec.structs.replace(found, duration_ms=duration_ms)
