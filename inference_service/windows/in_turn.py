"""The windows of one recording on their way through the speech model, some at once."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from inference_service.errors import BadRequest, ServiceError
from inference_service.tasks import UNDETERMINED, DetailedTranscript, TranscribeOptions, Transcript
from inference_service.windows.cut import Window
from inference_service.windows.join import placed

#: Whisper heeds the end of a prompt, of some 200 tokens.
_CARRIED_CHARACTERS = 800

Recognise = Callable[[Window, TranscribeOptions], Awaitable[DetailedTranscript]]


async def in_turn(
    windows: Sequence[Window], options: TranscribeOptions, recognise: Recognise, *, at_once: int
) -> AsyncGenerator[DetailedTranscript]:
    """Yield the transcripts of `windows` in order, with times in the recording.

    At most `at_once` windows are recognised or done and not yet taken. Without a language in the options, the
    windows go one by one until one has text, and the rest have its language. With `carry_text` all go one by
    one. Closing the iterator cancels what is under way. Raises the error of the first window that fails, with
    its place in the recording.
    """
    waiting = deque(windows)
    running: deque[asyncio.Task[DetailedTranscript]] = deque()
    language_known = options.language is not None
    try:
        while waiting or running:
            free = at_once if language_known and not options.carry_text else 1
            while waiting and len(running) < free:
                running.append(asyncio.create_task(_recognised(waiting.popleft(), options, recognise)))
            heard = await running[0]
            running.popleft()
            if heard.transcript.text:
                language_known = True
                options = _for_the_next(options, heard.transcript)
            yield heard
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _recognised(window: Window, options: TranscribeOptions, recognise: Recognise) -> DetailedTranscript:
    try:
        return placed(await recognise(window, options), window)
    except BadRequest:
        raise  # a field of the request is wrong, not this part of the recording
    except ServiceError as error:
        error.args = (f"from {window.start:.1f} to {window.end:.1f} s of the recording: {error}",)
        raise


def _for_the_next(options: TranscribeOptions, heard: Transcript) -> TranscribeOptions:
    if options.carry_text:
        text = f"{options.prompt} {heard.text}" if options.prompt else heard.text
        options = replace(options, prompt=text[-_CARRIED_CHARACTERS:])
    if options.language is None and heard.language != UNDETERMINED:
        options = replace(options, language=heard.language)
    return options
