"""Live transcription. If a node stops, the audio without a final result is sent to another node."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from inference_service.client.errors import Unavailable, Unreachable
from inference_service.client.recording import Recording

#: Seconds between attempts to find a node, and seconds without an answer before giving up.
_RETRY_EVERY = 0.5
_RETRY_FOR = 30.0


#: The field `stream_id` of the client's streams.
STREAM_ID = "speech"


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Options of a stream.

    `language` None: detected. `flush_interval_ms` None: the node's setting; 0: no partial results.
    """

    language: str | None = None
    flush_interval_ms: int | None = None
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """A result of the stream. A later text replaces `text` unless it `is_final`."""

    text: str
    is_final: bool
    result: dict[str, Any]  # the fields of AIStreamResult, with `result_data` decoded


#: One attempt: sends the recording from its first unanswered byte, and yields the fields of each result.
Attempt = Callable[[Recording, StreamOptions], Iterator[dict[str, Any]]]


def transcribe_live(
    recording: Recording,
    options: StreamOptions,
    attempt: Attempt,
    waiting: Callable[[str], None] = lambda reason: None,
) -> Iterator[Update]:
    """Yield the text of `recording` while it is being filled.

    If the node stops or dies, the audio without a final result is sent to another node. `waiting` is called
    with the reason before each further attempt. Raises ClientError; Unavailable if a retry may succeed.
    """
    give_up: float | None = None
    is_first = True
    try:
        while True:
            try:
                for fields in attempt(recording, options):
                    give_up = None
                    update = _update(fields)
                    if update.is_final:
                        recording.answer(update.result["result_data"]["duration_ms"])
                    yield update
                if recording.failure is not None:
                    raise recording.failure
                return
            except Unavailable as error:
                if isinstance(error, Unreachable) and is_first:
                    raise  # most likely the address is wrong
                is_first = False
                now = time.monotonic()
                give_up = give_up or now + _RETRY_FOR
                if now > give_up:
                    raise
                waiting(f"{error}; trying again")
                time.sleep(_RETRY_EVERY)
    finally:
        recording.abandon()


def _update(fields: dict[str, Any]) -> Update:
    data = json.loads(fields["result_data"])
    return Update(data["text"], fields["is_final"], {**fields, "result_data": data})
