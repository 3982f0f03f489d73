"""A transcription whose answer comes as events, and whether it came to its end."""

from __future__ import annotations

import httpx2

from tests.e2e.deployment import API_KEY


def events(url: str, sound: bytes) -> httpx2.Request:
    """A transcription of a WAV file at the gateway of this address, whose answer comes as events."""
    return httpx2.Request(
        "POST",
        f"{url}/v1/audio/transcriptions",
        files={"file": ("tone.wav", sound, "audio/wav")},
        data={"model": "whisper-1", "stream": "true"},
        headers={"Authorization": f"Bearer {API_KEY}"},
    )


def ended(answer: httpx2.Response) -> str | None:
    """Why an answer did not come to its end; None where it did."""
    if answer.status_code == 200 and "transcript.text.done" in answer.text:
        return None
    return f"{answer.status_code} {answer.text[-300:]}"
