"""Audio in: from whatever a client sends to the waveform that a model takes."""

from inference_service.audio.audio import Audio

__all__ = ["Audio"]
