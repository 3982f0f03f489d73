"""Sends whole recordings over HTTP."""

from collections.abc import Callable
from io import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx2

from inference_service.client.errors import ClientError, Unavailable, Unreachable, refusal
from inference_service.client.files import AudioFile
from inference_service.client.watch import unless_silent

_BASE = "/api/v1/ai"

#: Seconds for a node to take a connection, and for it to take the next bytes of a recording.
CONNECT_SECONDS, _WRITE_SECONDS = 10.0, 60.0


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
    base = f"{checked_url(url)}{_BASE}"
    headers = {"X-API-Key": api_key} if api_key else {}
    fields = {
        "language": language,
        "format": file.format,
        "sample_rate": file.sample_rate,
        "channels": file.channels,
    }
    form = {name: str(value) for name, value in fields.items() if value is not None}
    limits = httpx2.Timeout(timeout, connect=CONNECT_SECONDS, write=_WRITE_SECONDS)

    def is_alive() -> bool:
        try:
            httpx2.get(f"{base}/health", timeout=CONNECT_SECONDS, verify=verify)
        except httpx2.TransportError:
            return False
        return True

    def send(content: BinaryIO) -> httpx2.Response:
        files = {"file": (file.path.name, content, "application/octet-stream")}
        try:
            return httpx2.post(
                f"{base}/{task}", data=form, files=files, headers=headers, timeout=limits, verify=verify
            )
        except httpx2.InvalidURL as error:
            raise ClientError(f"{url}: is not an address: {error}") from None
        except httpx2.ConnectTimeout:
            raise Unreachable(f"{url}: no answer within {CONNECT_SECONDS:g} s") from None
        except httpx2.ConnectError as error:
            raise Unreachable(f"{url}: cannot be reached: {error}") from None
        except httpx2.ReadTimeout:
            raise Unavailable(f"{url}: no answer within {timeout:g} s") from None
        except httpx2.TransportError as error:
            raise Unavailable(f"{url}: the connection broke: {error or type(error).__name__}") from None
        except OSError as error:
            raise file.unreadable(error) from None

    with file.open() as content:
        answer = unless_silent(lambda: send(_Progress(content, progress)), is_alive, url)  # type: ignore[arg-type]
    return _data(url, answer)


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
    if answer.has_redirect_location:
        raise ClientError(f"{url}: redirects to {answer.headers['location']}; give that address")
    try:
        envelope = answer.json()
        message, data = envelope["message"], envelope["data"]
    except (ValueError, KeyError, TypeError):
        raise refusal(url, "did not answer with this service's JSON", answer.status_code) from None
    if answer.is_success:
        result: dict[str, Any] = data
        return result
    raise refusal(url, message, answer.status_code)
