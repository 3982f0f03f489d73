"""Decodes beside the event loop: in threads of its own, for a bounded time, until the client leaves."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from time import monotonic

from inference_service.audio.decode import Recording, decode, view
from inference_service.audio.limits import Limits
from inference_service.audio.waveform import Audio
from inference_service.errors import BadRequest, RuntimeTimeout

#: Seconds for one recording. Half an hour of AAC takes a processor three.
MAX_SECONDS = 120.0

#: Recordings that are decoded at once. More than processors, so that long ones do not hold short ones up.
_THREADS = ThreadPoolExecutor(4 + (os.cpu_count() or 1), "decode")


async def decode_beside_the_loop(recording: Recording, limits: Limits) -> Audio:
    """`decode`, in a thread unless the result is a view. Cancelling ends the thread's work, too.

    Raises what `decode` raises, and RuntimeTimeout after `MAX_SECONDS`.
    """
    audio = view(recording, limits)
    if audio is not None and audio.frames:
        return audio
    left = Event()
    deadline = monotonic() + MAX_SECONDS

    def check() -> None:
        limits.check()
        if left.is_set():
            raise BadRequest("the client has left")
        if monotonic() > deadline:
            raise RuntimeTimeout(f"decoding the audio took longer than {MAX_SECONDS:g} s")

    work = asyncio.get_running_loop().run_in_executor(
        _THREADS, decode, recording, replace(limits, check=check)
    )
    try:
        return await work
    finally:
        left.set()
