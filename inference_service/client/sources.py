"""Fills recordings for live transcription: from files of every format, and from standard input."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from inference_service import audio
from inference_service.audio import Limits
from inference_service.client.errors import ClientError
from inference_service.client.files import AudioFile
from inference_service.client.recording import CHUNK_SECONDS, Recording
from inference_service.errors import ServiceError

#: Seconds of the longest file. A stream has no limit of its own.
_MAX_SECONDS = 24 * 3600.0

_READ_BYTES = 65536


def from_file(file: AudioFile, *, realtime: bool) -> Recording:
    """Return the recording in a file, decoded as the service decodes it: a stream is PCM, so that the audio
    without a result can go to another node.

    With `realtime` it is filled as fast as it is spoken, else as fast as it is read. Raises ClientError for a
    file that cannot be decoded at all; what is wrong further on is the recording's `failure`.
    """
    coded = audio.Recording(file.read(), file.format_name, file.sample_rate, file.channels)
    blocks = (block for block in audio.waveforms(coded, Limits(_MAX_SECONDS)) if len(block))
    try:
        first = next(blocks, None)
    except ServiceError as error:
        raise ClientError(f"{file.path}: {error}") from None
    if first is None:
        raise ClientError(f"{file.path}: has no audio")
    recording = Recording(audio.SPEECH_RATE)

    def fill() -> None:
        began = time.monotonic()
        for chunk in _chunks(chain([first], blocks)):
            if realtime:
                time.sleep(max(0.0, began + recording.seconds_read - time.monotonic()))
            if not recording.append(chunk):
                return

    recording.decoder = _fill_in_thread(recording, fill, str(file.path))
    return recording


def _chunks(blocks: Iterator[NDArray[np.float32]]) -> Iterator[bytes]:
    step = int(CHUNK_SECONDS * audio.SPEECH_RATE)
    for block in blocks:
        samples = (np.clip(block, -1.0, 1.0) * 32767).astype("<i2")
        for start in range(0, len(samples), step):
            yield samples[start : start + step].tobytes()


def standard_input() -> int:
    """The descriptor of standard input. Raises ClientError where it is closed."""
    if sys.stdin is None:
        raise ClientError("standard input: is closed")
    return sys.stdin.fileno()


def from_pipe(descriptor: int, sample_rate: int, channels: int) -> Recording:
    """Return a recording that is filled from an open file: 16-bit little-endian PCM."""
    recording = Recording(sample_rate, channels)

    def fill() -> None:
        # Not through a Python file: at exit, the interpreter would wait for a thread that reads one.
        while data := os.read(descriptor, _READ_BYTES):
            if not recording.append(data):
                return
        if not recording.seconds_read:
            raise ClientError("standard input: is empty")

    _fill_in_thread(recording, fill, "standard input")
    return recording


def _fill_in_thread(recording: Recording, fill: Callable[[], None], name: str) -> Thread:
    def run() -> None:
        failure: ClientError | None = None
        try:
            fill()
        except ClientError as error:
            failure = error
        except ServiceError as error:
            failure = ClientError(f"{name}: cannot be read to its end: {error}")
        except OSError as error:
            failure = ClientError(f"{name}: cannot be read: {error.strerror or error}")
        finally:
            # Whatever happened: who sends the recording waits for its end.
            recording.finish(failure)

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread
