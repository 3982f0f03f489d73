"""The configuration of a real-time session: its values, and how a client's update changes them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from inference_service.audio import g711
from inference_service.errors import BadRequest
from inference_service.http.openai.errors import FieldRefused
from inference_service.http.openai.names import check_model
from inference_service.http.openai.realtime.turns import TurnSettings
from inference_service.http.openai.realtime.updates import (
    BetaUpdate,
    FormatUpdate,
    InputUpdate,
    SessionUpdate,
    TranscriptionUpdate,
    TurnDetectionUpdate,
)
from inference_service.request_fields import language
from inference_service.tasks import TranscribeOptions

#: Hz of PCM: OpenAI's only rate, and the rates that this service takes besides.
_PCM_RATE, _LOWEST_RATE, _HIGHEST_RATE = 24_000, 8_000, 48_000

#: Milliseconds between partial results, by OpenAI's words for the delay of the text.
_INTERVALS = {"minimal": 200, "low": 400, "medium": 800, "high": 1600, "xhigh": 3200}

#: The beta's names of the formats.
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of appended audio: `rate` in Hz, one channel."""

    type: str = "audio/pcm"
    rate: int = _PCM_RATE

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample as it is sent."""
        return 2 if self.type == "audio/pcm" else 1

    def samples(self, data: bytes) -> NDArray[np.int16]:
        """The samples of whole `data`."""
        if self.type == "audio/pcmu":
            return g711.from_ulaw(data)
        if self.type == "audio/pcma":
            return g711.from_alaw(data)
        return np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False)


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """A session's configuration. `turns` None: the client commits."""

    model: str
    format: AudioFormat = field(default_factory=AudioFormat)
    turns: TurnSettings | None = field(default_factory=TurnSettings)
    language: str | None = None
    languages: tuple[str, ...] = ()
    prompt: str | None = None
    keywords: tuple[str, ...] = ()
    delay: str | None = None

    @property
    def speech(self) -> TranscribeOptions:
        """The options of speech recognition."""
        only = self.languages[0] if len(self.languages) == 1 else None
        spoken = self.language or only
        return TranscribeOptions(
            language=spoken,
            languages=() if spoken else self.languages,
            prompt=self.prompt,
            hotwords=", ".join(self.keywords) or None,
        )

    def flush_interval_ms(self, default: int) -> int:
        """Milliseconds between partial results; `default` is the node's, 0 where it names none."""
        return _INTERVALS[self.delay] if self.delay else default or _INTERVALS["low"]

    def updated(self, update: SessionUpdate, own_model: str) -> SessionConfig:
        """The configuration after a client's update. `own_model` is the name of the node's model.

        Raises FieldRefused with the path of the field, and ModelNotFound.
        """
        if update.type != "transcription":
            raise FieldRefused(
                "session.type", f"{update.type[:40]!r} is not available: this node has transcription sessions"
            )
        _refuse_logprobs(update.include)
        given = (update.audio and update.audio.input) or InputUpdate()
        return self._with(given, own_model, "session.audio.input.")

    def updated_by_beta(self, update: BetaUpdate, own_model: str) -> SessionConfig:
        """The same for the beta's form of an update."""
        _refuse_logprobs(update.include)
        if update.modalities is not None and "text" not in update.modalities:
            raise FieldRefused("session.modalities", "a transcription is text")
        given = InputUpdate(
            transcription=update.input_audio_transcription,
            noise_reduction=update.input_audio_noise_reduction,
            turn_detection=update.turn_detection,
        )
        if update.input_audio_format is not UNSET:
            given.format = FormatUpdate(_BETA_FORMATS[update.input_audio_format])  # type: ignore[arg-type]
        return self._with(given, own_model, "session.")

    def _with(self, given: InputUpdate, own_model: str, path: str) -> SessionConfig:
        config = self
        if given.noise_reduction is not None:
            raise FieldRefused(f"{path}noise_reduction", "this node does not reduce noise; send null")
        if given.format is not UNSET:
            config = replace(config, format=_format(given.format or FormatUpdate(), f"{path}format"))
        if given.turn_detection is not UNSET:
            detection = given.turn_detection
            turns = None if detection is None else _turns(detection, f"{path}turn_detection")
            config = replace(config, turns=turns)
        if given.transcription is None:
            raise FieldRefused(f"{path}transcription", "cannot be null in a transcription session")
        if given.transcription is not UNSET:
            config = _transcription(config, given.transcription, own_model, f"{path}transcription")
        return config

    def shown(self, session_id: str) -> dict[str, Any]:
        """The session as `session.created` and `session.updated` show it."""
        format: dict[str, Any] = {"type": self.format.type}
        if self.format.type == "audio/pcm":
            format["rate"] = self.format.rate
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "audio": {
                "input": {
                    "format": format,
                    "transcription": self._shown_transcription(),
                    "noise_reduction": None,
                    "turn_detection": self._shown_turns(),
                }
            },
            "include": None,
        }

    def shown_in_beta(self, session_id: str) -> dict[str, Any]:
        """The same in the beta's form."""
        names = {name: beta for beta, name in _BETA_FORMATS.items()}
        return {
            "object": "realtime.transcription_session",
            "id": session_id,
            "modalities": ["text"],
            "input_audio_format": names[self.format.type],
            "input_audio_transcription": self._shown_transcription(),
            "input_audio_noise_reduction": None,
            "turn_detection": self._shown_turns(),
            "include": None,
            "client_secret": None,
        }

    def _shown_transcription(self) -> dict[str, Any]:
        shown = {
            "model": self.model,
            "language": self.language,
            "languages": list(self.languages),
            "prompt": self.prompt,
            "keywords": list(self.keywords),
            "delay": self.delay,
        }
        return {name: value for name, value in shown.items() if value}

    def _shown_turns(self) -> dict[str, Any] | None:
        if self.turns is None:
            return None
        return {
            "type": "server_vad",
            "threshold": self.turns.threshold,
            "prefix_padding_ms": self.turns.prefix_padding_ms,
            "silence_duration_ms": self.turns.silence_duration_ms,
        }


def _refuse_logprobs(include: list[str] | None) -> None:
    if include:
        raise FieldRefused(
            "session.include",
            f"{include[0][:60]!r} is not available here: log probabilities are not returned",
            "unsupported_parameter",
        )


def _format(given: FormatUpdate, path: str) -> AudioFormat:
    if given.type != "audio/pcm":
        if given.rate not in (None, g711.SAMPLE_RATE):
            raise FieldRefused(f"{path}.rate", f"{given.type} has {g711.SAMPLE_RATE} Hz, not {given.rate}")
        return AudioFormat(given.type, g711.SAMPLE_RATE)
    rate = _PCM_RATE if given.rate is None else given.rate
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise FieldRefused(
            f"{path}.rate",
            f"{rate} Hz is not allowed; {_LOWEST_RATE} to {_HIGHEST_RATE} are, and {_PCM_RATE} is usual",
        )
    return AudioFormat(given.type, rate)


def _turns(given: TurnDetectionUpdate, path: str) -> TurnSettings:
    if given.type != "server_vad":
        raise FieldRefused(
            f"{path}.type", f"{given.type[:40]!r} is not available; server_vad is, and null for none"
        )
    for name in ("idle_timeout_ms", "eagerness"):
        if getattr(given, name) is not None:
            raise FieldRefused(f"{path}.{name}", "is not available here", "unsupported_parameter")
    chosen = TurnSettings(
        **{
            name: value
            for name in ("threshold", "prefix_padding_ms", "silence_duration_ms")
            if (value := getattr(given, name)) is not None
        }
    )
    limits = {"threshold": (0, 1), "prefix_padding_ms": (0, 5000), "silence_duration_ms": (30, 10_000)}
    for name, (lowest, highest) in limits.items():
        value = getattr(chosen, name)
        if not lowest <= value <= highest:
            raise FieldRefused(f"{path}.{name}", f"{value:g} is not between {lowest} and {highest}")
    return chosen


def _language(spoken: str | None, path: str) -> str | None:
    try:
        return language(spoken, path)
    except BadRequest as error:
        raise FieldRefused(path, str(error).removeprefix(f"{path}: ")) from None


def _transcription(
    config: SessionConfig, given: TranscriptionUpdate, own_model: str, path: str
) -> SessionConfig:
    changes: dict[str, Any] = {
        name: value for name in given.__struct_fields__ if (value := getattr(given, name)) is not UNSET
    }
    if changes.get("model"):
        check_model(changes["model"], own_model)
    else:
        changes.pop("model", None)
    if "language" in changes:
        changes["language"] = _language(changes["language"], f"{path}.language")
    if "languages" in changes:
        named = [_language(each, f"{path}.languages") for each in changes["languages"] or ()]
        changes["languages"] = tuple(dict.fromkeys(code for code in named if code))
    if "keywords" in changes:
        changes["keywords"] = tuple(word for word in changes["keywords"] or () if word.strip())
    if "prompt" in changes:
        changes["prompt"] = changes["prompt"] or None
    return replace(config, **changes)
