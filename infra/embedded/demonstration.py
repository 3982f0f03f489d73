"""Sends a real recording through a gateway and shows the answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_service.client import ClientError, ask

TASKS = ("asr", "emotion", "synthesis")
_TIMEOUT_SECONDS = 180


class DemonstrationFailed(Exception):
    """The gateway refused the recording; `str(error)` gives the task and the gateway's message."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The fleet's answers to a recording: `data` and the time taken in `seconds`, by task."""

    data: dict[str, dict[str, Any]]
    seconds: dict[str, float]

    def __str__(self) -> str:
        rows = ((task, _row(task, answer)) for task, answer in self.data.items())
        return "\n".join(
            f"  {name:<11} {value}  ({detail}, {self.seconds[task]:.2f} s){_model(self.data[task])}"
            for task, (name, value, detail) in rows
        )


def _row(task: str, answer: dict[str, Any]) -> tuple[str, str, str]:
    """The name of an answer, what it says, and how sure it is."""
    sure = f"confidence {answer['confidence']:.2f}"
    if task == "asr":
        return "transcript", f"“{answer['text']}”", f"{answer['language']}, {sure}"
    if task == "emotion":
        return "emotion", answer["emotion"], sure
    return "synthesis", "synthetic" if answer["is_synthetic"] else "a human voice", sure


def _model(answer: dict[str, Any]) -> str:
    """A line with the kind and the caveat of the answer's model, where it has a caveat."""
    return f"\n{'':14}{answer.get('kind', 'model')}: {answer['caveat']}" if "caveat" in answer else ""


def send(recording: Path, url: str, api_key: str | None = None, tasks: Sequence[str] = TASKS) -> Answers:
    """Send a sound file (.wav, .flac, .ogg, .mp3) unchanged to the gateway's routes of `tasks` at `url`.

    Raises DemonstrationFailed when an answer is not 200 with a result.
    """
    data: dict[str, dict[str, Any]] = {}
    seconds: dict[str, float] = {}
    for task in tasks:
        begin = time.perf_counter()
        try:
            # The certificate names the public host, and this request goes to the loopback address.
            data[task] = ask(task, url, recording, api_key=api_key, timeout=_TIMEOUT_SECONDS, verify=False)
        except ClientError as error:
            raise DemonstrationFailed(f"{task} of {recording.name}: {error}") from None
        seconds[task] = time.perf_counter() - begin
    return Answers(data, seconds)
