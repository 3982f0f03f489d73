"""Limits of sample rate and channels, for audio of every format."""

from inference_service.errors import BadRequest

#: Hz. A lower rate carries no speech; no recorder uses a higher one.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 384_000

#: More than any microphone array in a meeting room.
MAX_CHANNELS = 64


def check_rate_and_channels(sample_rate: int, channels: int, *, where: str) -> None:
    """Raise BadRequest, beginning with `where`, for a sample rate (Hz) or channel count out of bounds."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise BadRequest(
            f"{where}sample_rate: {sample_rate} is not allowed; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz are"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadRequest(f"{where}channels: {channels} is not allowed; 1 to {MAX_CHANNELS} are")
