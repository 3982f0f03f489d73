"""A request on its way through the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from lanes import Work
from levels import at_one_level, with_quiet_speech_raised
from options import PRIORITIES, Options
from passes import Request, Speech
from speech import find_speech
from transcription import Transcription, transcription
from windows import SAMPLE_RATE, Window, pack

# Requests of at most so much audio are short: the lane that is kept free for them decodes them.
SHORT_S = 15.0
# Hearing live speech again, in the full context, takes up to four times as long as the first time. Whoever
# has waited longer than this gets what was heard.
PATIENCE_S = 0.4

LIVE, SHORT, LONG = PRIORITIES
_WORK = {LIVE: Work.LIVE, SHORT: Work.SHORT, LONG: Work.LONG}


class JobSpeech(Speech):
    """A window of a job."""

    job: Job
    finished = False


class Job:
    """One request: `cut` makes its windows, `finish` takes each that was decoded, and after the last one (or
    the first failure, or once the client has left) `answer` is called, once."""

    def __init__(
        self,
        audio: np.ndarray,
        options: Options,
        is_cancelled: Callable[[], bool],
        answer: Callable[[Job], None],
    ) -> None:
        self.options = options
        priority = options.priority or (SHORT if audio.size <= SHORT_S * SAMPLE_RATE else LONG)
        self.work = Work.DRAFT if options.draft else _WORK[priority]
        self.arrived = time.monotonic()
        self.error: Exception | None = None
        self.answered = False
        self.speeches: list[JobSpeech] = []
        self._audio = audio
        self._request = Request(options.language, self.wanted)
        self._windows: list[Window] = []
        self._undone = 0
        self._is_cancelled = is_cancelled
        self._cancelled = False
        self._answer = answer
        self._lock = threading.Lock()

    @property
    def is_late(self) -> bool:
        """Whether the client had better have a text that may be right than a later one."""
        return time.monotonic() - self.arrived > PATIENCE_S

    def wanted(self) -> bool:
        """False once the client has left or the request has failed."""
        if not self._cancelled and self.error is None:
            self._cancelled = self._is_cancelled()
        return not self._cancelled and self.error is None

    def cut(self) -> None:
        """Find speech and lay it into windows; answers at once where nobody speaks. Does not raise."""
        try:
            found = find_speech(at_one_level(self._audio))
            self._windows = pack(found, self._audio.size)
            audio = with_quiet_speech_raised(self._audio, found)
            self.speeches = [
                JobSpeech(window.cut_from(audio), self.options, self._request) for window in self._windows
            ]
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must be answered
            self.error = error
        self._undone = len(self.speeches)
        for speech in self.speeches:
            speech.job = self
        if not self.speeches or not self.wanted():
            self._answer_once()

    def fail(self, error: Exception) -> None:
        """Take the failure of a window."""
        self.error = error
        self._answer_once()

    def finish(self, speech: JobSpeech) -> None:
        """Take a window that was decoded."""
        speech.finished = True
        speech.samples = speech.samples[:0]
        with self._lock:
            self._undone -= 1
            done = self._undone == 0
        if done or not self.wanted():
            self._answer_once()

    def transcription(self) -> Transcription:
        """What was said."""
        return transcription(self._windows, self.speeches, self._request.language)

    def _answer_once(self) -> None:
        with self._lock:
            if self.answered:
                return
            self.answered = True
        self._answer(self)
