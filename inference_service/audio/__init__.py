"""Decodes the audio that clients send into the waveform that models take."""

from inference_service.audio.decode import Recording, decode, waveforms
from inference_service.audio.decoding import decode_beside_the_loop
from inference_service.audio.limits import SPEECH_RATE, Limits
from inference_service.audio.waveform import Audio
