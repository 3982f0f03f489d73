"""Sends recordings one after the other; one that fails does not stop the others."""

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from inference_service.client import outputs, sources
from inference_service.client.display import Display
from inference_service.client.errors import ClientError, Refused, Unavailable, Unreachable
from inference_service.client.files import AudioFile
from inference_service.client.live import Attempt, StreamOptions, transcribe_live
from inference_service.client.microphone import Microphone
from inference_service.client.over_grpc import ask_over_grpc, over_grpc
from inference_service.client.over_websocket import over_websocket
from inference_service.client.progress import Bar, bar
from inference_service.client.recording import Recording
from inference_service.client.upload import Entrance, ask, transcribe_in_parts

Task = Literal["asr", "emotion", "synthesis"]
Format = Literal["txt", "srt", "vtt", "json"]

DONE, FAILED, TRY_LATER = 0, 1, 3

#: Milliseconds between partial texts of live audio.
LIVE_INTERVAL_MS = 500

#: Hz, of standard input.
PIPE_RATE = 48_000

#: The name of standard input.
STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of each recording, and how. `grpc` is HOST:PORT; None: HTTP.

    `realtime` streams as fast as it is spoken, `partial` with so many milliseconds between partial texts.
    `input_format`, `rate` (Hz) and `channels` describe audio without a header.
    """

    task: Task
    format: Format
    entrance: Entrance
    grpc: str | None = None
    tls: bool = False
    language: str | None = None
    realtime: bool = False
    partial: int | None = None
    input_format: str | None = None
    rate: int | None = None
    channels: int | None = None

    @property
    def streamed(self) -> bool:
        return self.realtime or self.partial is not None

    @property
    def options(self) -> StreamOptions:
        interval = LIVE_INTERVAL_MS if self.partial is None else self.partial
        return StreamOptions(self.language, interval, self.entrance.api_key)

    @property
    def attempt(self) -> Attempt:
        return over_grpc(self.grpc, tls=self.tls) if self.grpc else over_websocket(self.entrance.url)


def run(
    job: Job, files: Sequence[str], targets: Sequence[Path | None], display: Display, *, force: bool = False
) -> int:
    """Send each recording and print its result, or write it to its target. Returns the exit status.

    Stops early where every other recording would fail for the same reason.
    """
    failures: list[ClientError] = []
    for number, (name, target) in enumerate(zip(files, targets, strict=True), 1):
        which = f"{number}/{len(files)}" if len(files) > 1 else ""
        try:
            if target is not None and not force:
                outputs.check_new(target)
            _one(job, name, target, display, which)
        except ClientError as error:
            failures.append(error)
            display.fail(str(error), error.remedy)
            if isinstance(error, Unreachable | Refused) and number < len(files):
                display.fail(f"not sent: {', '.join(files[number:])}")
                break
    if failures and len(files) > 1:
        display.fail(f"{len(failures)} of {len(files)} recordings failed")
    return _status(failures)


def _status(failures: list[ClientError]) -> int:
    if not failures:
        return DONE
    return TRY_LATER if all(isinstance(each, Unavailable) for each in failures) else FAILED


def _one(job: Job, name: str, target: Path | None, display: Display, which: str) -> None:
    prefix = name if which else ""
    if name == STANDARD_INPUT or job.streamed:
        file = AudioFile(Path(name), job.input_format, job.rate, job.channels)
        recording = (
            sources.from_pipe(sources.standard_input(), job.rate or PIPE_RATE, job.channels or 1)
            if name == STANDARD_INPUT
            else sources.from_file(file, realtime=job.realtime)
        )
        _stream(job, recording, prefix, target, display)
        return
    text, result = _whole(job, Path(name), which, display)
    if target is None:
        display.final(_named(prefix, text, job.format), {"file": name, **result} if prefix else result)
        return
    display.warn(result)
    content = json.dumps(result, ensure_ascii=False) if job.format == "json" else text.rstrip("\n")
    outputs.write(target, f"{content}\n")
    display.note(f"{name} → {target}")


def _named(prefix: str, text: str, kind: Format) -> str:
    """The text to print; a line of plain text has the recording's name before it, as in grep."""
    return f"{prefix}: {text}" if prefix and kind == "txt" else text.rstrip("\n")


def _whole(job: Job, path: Path, which: str, display: Display) -> tuple[str, dict[str, Any]]:
    """The text of a whole recording's result, in the job's format, and the result."""
    file = AudioFile(path, job.input_format, job.rate, job.channels)
    with bar(path, which, on_terminal=display.on_terminal) as shown:
        if job.grpc:
            shown.sent(1.0)
            result = ask_over_grpc(
                job.grpc, file, job.options, task=job.task, tls=job.tls, timeout=job.entrance.timeout
            )
        elif job.format in ("srt", "vtt") or (_tells_progress(job, file) and display.on_terminal):
            return _in_parts(job, file, shown)
        else:
            entrance = job.entrance
            result = ask(
                job.task,
                entrance.url,
                file,
                api_key=entrance.api_key,
                language=job.language,
                timeout=entrance.timeout,
                progress=shown.sent,
            )
    return _text(job.task, result), result


def _tells_progress(job: Job, file: AudioFile) -> bool:
    """Whether the text can come with its progress: that route takes neither sample rate nor channels."""
    plain = file.sample_rate is None and file.channels is None
    return job.task == "asr" and job.format == "txt" and plain


def _in_parts(job: Job, file: AudioFile, shown: Bar) -> tuple[str, dict[str, Any]]:
    kind: Literal["text", "srt", "vtt"] = "text" if job.format in ("txt", "json") else job.format  # type: ignore[assignment]
    result = transcribe_in_parts(
        job.entrance, file, kind, language=job.language, sent=shown.sent, heard=shown.heard
    )
    return result["text"], result


def _text(task: Task, result: dict[str, Any]) -> str:
    if task == "asr":
        return str(result["text"])
    label = result["emotion"] if task == "emotion" else "synthetic" if result["is_synthetic"] else "human"
    return f"{label} (confidence {result['confidence']:.2f})"


def _stream(job: Job, recording: Recording, prefix: str, target: Path | None, display: Display) -> None:
    texts: list[str] = []
    for update in transcribe_live(recording, job.options, job.attempt, waiting=display.show):
        if not update.is_final:
            display.partial(update.text, update.result)
        elif target is None:
            result = {"file": prefix, **update.result} if prefix else update.result
            display.final(_named(prefix, update.text, job.format) if update.text else "", result)
        else:
            display.warn(update.result)
            json_line = json.dumps(update.result, ensure_ascii=False)
            texts.append(json_line if job.format == "json" else update.text)
    if target is not None:
        outputs.write(target, "".join(f"{text}\n" for text in texts if text))


def listen(job: Job, device: str | None, display: Display) -> int:
    """Print what the microphone hears until Ctrl-C, and then the rest of it; a second Ctrl-C ends at once.

    Returns the exit status.
    """
    try:
        microphone = Microphone(device)
        former = signal.getsignal(signal.SIGINT)

        def stop(*_: object) -> None:
            signal.signal(signal.SIGINT, former)
            microphone.stop()

        signal.signal(signal.SIGINT, stop)
        display.show("listening; Ctrl-C ends it")
        try:
            _stream(replace(job, realtime=True), microphone.recording, "", None, display)
            microphone.check()
        finally:
            signal.signal(signal.SIGINT, former)
            microphone.stop()
    except ClientError as error:
        display.fail(str(error), error.remedy)
        return _status([error])
    return DONE
