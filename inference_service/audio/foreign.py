"""Decodes what other people's libraries read, libsndfile first where it reads a format wholly.

This runs in a process of its own (`decoder_process`): these libraries have faults, and recordings come from
anybody.
"""

from collections.abc import Callable, Iterator

from inference_service.audio import ffmpeg, libsndfile
from inference_service.audio.jobs import Job, NotRecognised
from inference_service.audio.mono import Block
from inference_service.errors import BadRequest


def blocks(data: memoryview, job: Job, check: Callable[[float], None]) -> Iterator[Block]:
    """Yield the recording in `data` in blocks, float32 or int16 [frames, channels].

    `check` is called with the seconds that a header declares, or 0; it may raise. Raises BadRequest, and
    NotRecognised for what nobody recognises.
    """
    if job.reader in ("libsndfile", "unknown"):
        label = job.label if job.reader == "libsndfile" else None
        try:
            yield from libsndfile.blocks(data, label=label, check=lambda: check(0), starts_with=check)
            return
        except libsndfile.NotReadable as error:
            if job.demuxer is None and job.reader == "libsndfile":
                raise BadRequest(f"audio: {job.label} cannot be read: {error}") from error
    if job.reader == "unknown":
        yield from ffmpeg.blocks_of_unknown(data, NotRecognised())
    else:
        yield from ffmpeg.blocks(data, demuxer=job.demuxer, label=job.label)
