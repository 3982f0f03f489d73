"""From a client's bytes to audio for the engine: within the byte budget, with a place in the queue."""

from collections.abc import Callable

from inference_service import budget, tracing
from inference_service.audio import Audio, Limits, Recording, decode_beside_the_loop
from inference_service.budget import Lease
from inference_service.engine import Engine
from inference_service.tasks import Task


async def decoded(recording: Recording, engine: Engine, task: Task) -> Audio:
    """Decode a recording for `task`. The request's lease holds the audio.

    Raises Busy before the work of decoding where the node would refuse the inference, or where its byte
    budget has no room; BadRequest, TooLarge and RuntimeTimeout as decoding does.
    """
    settings = engine.settings.ai
    limits = Limits(
        settings.request.max_audio_seconds, settings.models.sample_rate, hold=_hold(budget.current())
    )
    with engine.admission.place(task), tracing.span("decode"):
        return await decode_beside_the_loop(recording, limits)


def _hold(lease: Lease) -> Callable[[int], None]:
    """Return what holds a waveform in the lease while it grows; it is called with the whole size in bytes."""
    held = 0

    def hold(size: int) -> None:
        nonlocal held
        lease.take(size - held)
        held = size

    return hold
