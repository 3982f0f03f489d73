"""A client's update of a session, as its message has it. An unknown field is an error, and not ignored."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class FormatUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """`audio.input.format`."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = None


class TranscriptionUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """`audio.input.transcription`. Fields that are not given keep their values."""

    model: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    languages: list[str] | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET
    keywords: list[str] | UnsetType | None = UNSET
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | UnsetType | None = UNSET


class TurnDetectionUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """`audio.input.turn_detection`. Nothing answers here, so the fields on answers have no effect."""

    type: str = "server_vad"
    threshold: float | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    idle_timeout_ms: int | None = None
    eagerness: str | None = None


class InputUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """`audio.input`."""

    format: FormatUpdate | UnsetType | None = UNSET
    transcription: TranscriptionUpdate | UnsetType | None = UNSET
    noise_reduction: dict[str, Any] | None = None
    turn_detection: TurnDetectionUpdate | UnsetType | None = UNSET


class AudioUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """`audio`."""

    input: InputUpdate | None = None


class SessionUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """`session` of `session.update`. `id`, `object` and `expires_at` are those that the server told."""

    type: str = "transcription"
    audio: AudioUpdate | None = None
    include: list[str] | None = None
    id: str | None = None
    object: str | None = None
    expires_at: int | None = None


class BetaUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """`session` of the beta's `transcription_session.update`."""

    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | UnsetType = UNSET
    input_audio_transcription: TranscriptionUpdate | UnsetType | None = UNSET
    input_audio_noise_reduction: dict[str, Any] | None = None
    turn_detection: TurnDetectionUpdate | UnsetType | None = UNSET
    modalities: list[str] | None = None
    include: list[str] | None = None
    id: str | None = None
    object: str | None = None
    expires_at: int | None = None
    client_secret: Any = None
