"""Live streams in real time, which go on at another node when theirs stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from inference_service.client.errors import ClientError
from inference_service.client.live import Attempt, StreamOptions, transcribe_live
from inference_service.client.recording import Recording
from tests.e2e.deployment import API_KEY
from tests.e2e.lab.speech import RATE, tone

#: A second of sound, as a stream sends it.
SECOND = tone(1.0)[44:]


@dataclass
class Talk:
    """A stream in real time that follows the next node when its node stops. `answered` is in milliseconds."""

    attempt: Attempt
    recording: Recording = field(default_factory=lambda: Recording(RATE))
    answered: int = 0
    retries: list[str] = field(default_factory=list)
    failure: ClientError | None = None

    def listen(self) -> None:
        try:
            options = StreamOptions(api_key=API_KEY)
            for update in transcribe_live(self.recording, options, self.attempt, self.retries.append):
                if update.is_final:
                    self.answered += update.result["result_data"]["duration_ms"]
        except ClientError as error:  # the test reports it
            self.failure = error


@contextmanager
def talking(talks: list[Talk]) -> Iterator[None]:
    """Sends sound in real time during the block, then waits for the last results."""
    over = threading.Event()

    def speak(talk: Talk) -> None:
        while not over.is_set():
            talk.recording.append(SECOND)
            time.sleep(1.0)
        talk.recording.finish()

    threads = [
        threading.Thread(target=work) for talk in talks for work in (talk.listen, lambda t=talk: speak(t))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(120)
