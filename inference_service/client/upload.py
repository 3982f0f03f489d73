"""Sends whole recordings over HTTP."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

import httpx2

from inference_service import audio_formats
from inference_service.client.errors import ClientError, Unavailable, Unreachable, refusal
from inference_service.client.files import AudioFile
from inference_service.client.watch import unless_silent

_BASE = "/api/v1/ai"
_TRANSCRIPTIONS = "/v1/audio/transcriptions"
#: The media type of a file that only its name and content describe.
_UNKNOWN = "application/octet-stream"

#: Seconds for a node to take a connection, and for it to take the next bytes of a recording.
CONNECT_SECONDS, _WRITE_SECONDS = 10.0, 60.0


@dataclass(frozen=True, slots=True)
class Entrance:
    """How to reach the service: the address, the key, and the seconds for an answer.

    `verify` false takes any certificate.
    """

    url: str
    api_key: str | None = None
    timeout: float = 300.0
    verify: bool = True

    @property
    def limits(self) -> httpx2.Timeout:
        """The limits of a request."""
        return httpx2.Timeout(self.timeout, connect=CONNECT_SECONDS, write=_WRITE_SECONDS)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        return {"X-API-Key": self.api_key} if self.api_key else {}

    def is_alive(self) -> bool:
        """Whether the service answers its health route."""
        try:
            httpx2.get(f"{self.url}{_BASE}/health", timeout=CONNECT_SECONDS, verify=self.verify)
        except httpx2.TransportError:
            return False
        return True

    @contextmanager
    def errors(self, file: AudioFile) -> Iterator[None]:
        """Turns the errors of a request that sends the file into ClientError."""
        url = self.url
        try:
            yield
        except httpx2.InvalidURL as error:
            raise ClientError(f"{url}: is not an address: {error}") from None
        except httpx2.ConnectTimeout:
            raise Unreachable(f"{url}: no answer within {CONNECT_SECONDS:g} s") from None
        except httpx2.ConnectError as error:
            raise Unreachable(f"{url}: cannot be reached: {error}") from None
        except httpx2.ReadTimeout:
            raise Unavailable(f"{url}: no answer within {self.timeout:g} s") from None
        except httpx2.TransportError as error:
            raise Unavailable(f"{url}: the connection broke: {error or type(error).__name__}") from None
        except OSError as error:
            raise file.unreadable(error) from None


def ask(
    task: str,
    url: str,
    recording: Path | AudioFile,
    *,
    api_key: str | None = None,
    language: str | None = None,
    timeout: float = 300.0,
    verify: bool = True,
    progress: Callable[[float], None] = lambda part: None,
) -> dict[str, Any]:
    """Send the recording to the service at `url` and return the `data` of the route of `task`: asr, emotion
    or synthesis.

    `progress` is called with the fraction of the file that is sent, 0 to 1. `timeout` is in seconds. `verify`
    false accepts any certificate. Raises ClientError; Unavailable if a retry may succeed.
    """
    file = recording if isinstance(recording, AudioFile) else AudioFile(recording)
    entrance = Entrance(checked_url(url), api_key, timeout, verify)
    fields = {
        "language": language,
        "format": file.format,
        "sample_rate": file.sample_rate,
        "channels": file.channels,
    }
    form = {name: str(value) for name, value in fields.items() if value is not None}

    def send(content: BinaryIO) -> httpx2.Response:
        files = {"file": (file.path.name, content, _UNKNOWN)}
        with entrance.errors(file):
            return httpx2.post(
                f"{entrance.url}{_BASE}/{task}",
                data=form,
                files=files,
                headers=entrance.headers,
                timeout=entrance.limits,
                verify=verify,
            )

    with file.open() as content:
        sent = _Progress(content, progress)
        answer = unless_silent(lambda: send(sent), entrance.is_alive, url)  # type: ignore[arg-type]
    return _data(url, answer)


def transcribe_in_parts(
    entrance: Entrance,
    file: AudioFile,
    kind: Literal["text", "srt", "vtt"],
    *,
    language: str | None = None,
    sent: Callable[[float], None] = lambda part: None,
    heard: Callable[[float], None] = lambda seconds: None,
) -> dict[str, Any]:
    """Send the recording, and return the last event of the stream that answers.

    Its `text` is the transcript or the subtitles, its `usage` has the length in seconds.

    `sent` is called with the fraction of the file that is sent, `heard` with the seconds that are recognised.
    The route takes no sample rate: audio without a header has its format's. Raises ClientError.
    """
    form = {"model": "asr", "response_format": kind, "stream": "true"}
    if language:
        form["language"] = language
    named = audio_formats.named(file.format) if file.format else None
    types = [each for each in (named.media_types if named else ()) if each != _UNKNOWN]
    media_type = types[0] if types else _UNKNOWN
    url = checked_url(entrance.url)

    def send(content: BinaryIO) -> dict[str, Any]:
        with (
            entrance.errors(file),
            httpx2.stream(
                "POST",
                f"{url}{_TRANSCRIPTIONS}",
                data=form,
                files={"file": (file.path.name, content, media_type)},
                headers=entrance.headers,
                timeout=entrance.limits,
                verify=entrance.verify,
            ) as answer,
        ):
            if not answer.is_success or "event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
                raise _refused(entrance.url, answer)
            return _last(entrance.url, answer.iter_lines(), heard)

    with file.open() as content:
        given = _Progress(content, sent)
        return unless_silent(lambda: send(given), entrance.is_alive, entrance.url)  # type: ignore[arg-type]


def _last(url: str, lines: Iterator[str], heard: Callable[[float], None]) -> dict[str, Any]:
    """The event that ends a stream. Raises Unavailable for an error in it, or where it breaks off."""
    for line in lines:
        if not line.startswith("data: {"):
            continue
        event: dict[str, Any] = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise Unavailable(f"{url}: {event['error']['message']}")
        if event["type"] == "transcript.text.done":
            return event
        heard(event.get("seconds", 0.0))
    raise Unavailable(f"{url}: the answer broke off")


def checked_url(url: str) -> str:
    """Return the address without a trailing slash. Raises ClientError for what is no HTTP address."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ClientError(f"{url}: is not an address: expected http://HOST[:PORT] or https://HOST[:PORT]")
    return url.rstrip("/")


class _Progress:
    """A file whose reader tells how far it has come."""

    def __init__(self, file: BinaryIO, progress: Callable[[float], None]) -> None:
        self._file = file
        self._progress = progress
        self._size = file.seek(0, SEEK_END)
        self.tell, self.seek = file.tell, file.seek
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Read, and call `progress` with the fraction that was read."""
        part = self._file.read(size)
        self._progress(min(1.0, self._file.tell() / self._size))
        return part


def _data(url: str, answer: httpx2.Response) -> dict[str, Any]:
    try:
        envelope = answer.json()
        data: dict[str, Any] = envelope["data"]
        if answer.is_success and "message" in envelope:
            return data
    except (ValueError, KeyError, TypeError):
        pass
    raise _refused(url, answer)


def _refused(url: str, answer: httpx2.Response) -> ClientError:
    """The error that an answer without a result is, from the envelope or OpenAI's error object."""
    if answer.has_redirect_location:
        return ClientError(f"{url}: redirects to {answer.headers['location']}; give that address")
    try:
        content = answer.json()
        message = content["error"]["message"] if "error" in content else content["message"]
    except (ValueError, KeyError, TypeError):
        message = "did not answer with this service's JSON"
    return refusal(url, message, answer.status_code)
