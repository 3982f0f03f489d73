"""Audio in: from whatever a client sends to the waveform that a model takes."""

from inference_service.audio.decode import decode_audio, decodes_slowly
from inference_service.audio.waveform import Audio

__all__ = ["Audio", "decode_audio", "decodes_slowly"]
