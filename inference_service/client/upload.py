"""Sends whole recordings over HTTP."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from inference_service.client.errors import ClientError, Unavailable, refusal

_MEDIA_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".aiff": "audio/aiff",
    ".aif": "audio/aiff",
    ".au": "audio/basic",
    ".caf": "audio/x-caf",
}

_BLOCK = 256 * 1024


def ask(
    task: str,
    url: str,
    path: Path,
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
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        raise ClientError(f"{path}: cannot be sent: unknown file type; allowed are {', '.join(_MEDIA_TYPES)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path}: cannot be read: {error.strerror}") from None
    headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
    if api_key:
        headers["X-API-Key"] = api_key
    try:
        answer = httpx2.post(
            f"{url.rstrip('/')}/api/v1/ai/{task}",
            params={"language": language} if language else None,
            content=_blocks(content, progress),
            headers=headers,
            timeout=timeout,
            verify=verify,
        )
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise ClientError(f"{url}: is not an address: {error}") from None
    except httpx2.TimeoutException:
        raise Unavailable(f"{url}: no answer within {timeout:g} s") from None
    except httpx2.TransportError as error:
        raise Unavailable(f"{url}: cannot be reached: {error}") from None
    return _data(url, answer)


def _blocks(content: bytes, progress: Callable[[float], None]) -> Iterator[bytes]:
    for start in range(0, len(content), _BLOCK):
        yield content[start : start + _BLOCK]
        progress(min(1.0, (start + _BLOCK) / len(content)))


def _data(url: str, answer: httpx2.Response) -> dict[str, Any]:
    try:
        envelope = answer.json()
        message, data = envelope["message"], envelope["data"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ClientError(
            f"{url}: did not answer with this service's JSON (HTTP {answer.status_code})"
        ) from None
    if answer.is_success:
        result: dict[str, Any] = data
        return result
    raise refusal(url, message, answer.status_code)
