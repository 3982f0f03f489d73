"""Decodes the audio that clients send into the waveform that models take."""

from inference_service.audio.decode import decode_audio, decodes_slowly
from inference_service.audio.waveform import Audio
