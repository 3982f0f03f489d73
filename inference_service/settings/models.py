"""Settings of `ai.models`: the models' names in the runtime, and their tensors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from inference_service.model_cards import ModelRole
from inference_service.settings.values import Names, OptionalPath, OptionalText, Seconds, Section
from inference_service.tasks import Task


class ModelSettings(Section):
    """One model: its name in the runtime and the tensors by which it is called."""

    enabled: bool = Field(default=True, description="false: the node does not offer this task (501).")
    model_name: str = Field(min_length=1)
    model_path: OptionalText = Field(
        default=None, description="Shown by /setup; the runtime knows its own paths."
    )
    input_name: str = Field(default="audio_input", min_length=1)
    output_names: Names = Field(min_length=1)
    input_type: Literal["waveform", "mel"] = "waveform"
    labels_path: OptionalPath = None
    sample_rate: int = Field(default=16000, ge=1000, le=384000, description="Hz that the model takes.")
    channels: Literal[1] = Field(default=1, description="Models take mono; other audio is mixed down.")
    timeout: Seconds = 30.0
    max_concurrent: int | None = Field(
        default=None, ge=1, description="Inferences of this model at once on this node."
    )
    requires: Names = Field(
        default=[], description="Models that this one calls itself; they are loaded with it."
    )


class AsrModelSettings(ModelSettings):
    """Speech recognition: one model from waveform to text, or an encoder with a decoder beside it."""

    model_name: str = Field(default="asr", min_length=1)
    output_names: Names = Field(default=["text", "confidence", "language", "segments"], min_length=1)
    timeout: Seconds = Field(default=120.0, description="Seconds for one window.")
    window_seconds: float = Field(
        default=30.0,
        ge=10.0,
        le=3600.0,
        description="Longest audio of one request to the model; longer recordings are cut at pauses.",
    )
    windows_at_once: int = Field(
        default=8, ge=1, le=256, description="Windows of one recording that are recognised at once."
    )
    lengths_name: OptionalText = Field(
        default=None, description="The input with the number of samples, for a model that has one."
    )
    prefix_name: OptionalText = Field(
        default=None, description="The input with `prefix`, for a model that has one."
    )
    prefix: str = Field(
        default="<|startoftranscript|><|{language}|><|transcribe|><|notimestamps|>",
        description="The start of Whisper's text; {language} is the request's, else default_language.",
    )
    language_name: str = Field(default="language", description="The input with the language, if there.")
    options_name: str = Field(default="options", description="The input with options as JSON, if there.")
    default_language: OptionalText = Field(
        default=None,
        description="A code such as en, where neither the request nor the model's answer names a language.",
    )
    decoder_path: OptionalText = Field(
        default=None, description="The decoder's model name; set: an encoder/decoder pair."
    )
    decoder_input_names: Names = Field(default=["tokens", "encoder_output"])
    decoder_output_names: Names = Field(default=["logits"])
    tokenizer_path: OptionalPath = None
    special_tokens_path: OptionalPath = None
    config_path: OptionalPath = None

    @model_validator(mode="after")
    def _prefix_has_language(self) -> AsrModelSettings:
        if self.prefix_name and "{language}" in self.prefix and not self.default_language:
            raise ValueError("default_language: needed, because prefix has {language}")
        return self

    @model_validator(mode="after")
    def _pair_takes_its_window(self) -> AsrModelSettings:
        if self.decoder_path and self.window_seconds > 30:
            raise ValueError("window_seconds: at most 30 with decoder_path, the window of Whisper's encoder")
        return self


class ClassifierSettings(ModelSettings):
    """A model that classifies audio."""

    window_seconds: Seconds | None = Field(
        default=None,
        description="Longer audio is classified in windows of at most this length, and the scores averaged.",
    )


class EmotionModelSettings(ClassifierSettings):
    """Emotion: of audio through `model_name`, of text through `text_model_name`."""

    model_name: str = Field(default="emotion", min_length=1)
    text_model_name: OptionalText = Field(
        default="emotion-text", description="Empty: emotion of text is not offered."
    )
    output_names: Names = Field(default=["logits"], min_length=1)


class SynthesisModelSettings(ClassifierSettings):
    """Synthetic-speech detection: a probability, or logits with labels."""

    model_name: str = Field(default="synthesis", min_length=1)
    output_names: Names = Field(default=["synthesis_output"], min_length=1)
    input_type: Literal["waveform", "mel"] = "mel"
    synthetic_labels: Names = Field(
        default=["synthetic", "fake", "spoof", "deepfake", "aivoice", "ai"],
        description="The labels that mean synthetic speech, for a model with labels.",
    )


class ModelsSettings(Section):
    """The three models, and whether rules may stand in for neural ones."""

    allow_rules: bool = Field(
        default=True, description="false: a task whose model is a rule or a lexicon is not offered (501)."
    )

    versions: dict[str, str] = Field(
        default={}, description="Content hashes by model, for models whose config.pbtxt does not say theirs."
    )
    asr: AsrModelSettings = AsrModelSettings()
    emotion: EmotionModelSettings = EmotionModelSettings()
    synthesis: SynthesisModelSettings = SynthesisModelSettings()

    def for_task(self, task: Task) -> ModelSettings:
        """Return the settings of the model that does `task`."""
        model: ModelSettings = getattr(self, task.model)
        return model

    def name_of(self, role: ModelRole) -> str | None:
        """The model's name in the runtime; None where no model has this role."""
        if role is ModelRole.EMOTION_TEXT:
            return self.emotion.text_model_name
        return self.for_task(role.task).model_name

    @property
    def sample_rate(self) -> int:
        """The rate in Hz to which recordings are decoded: the highest that an enabled model takes."""
        return max([16_000, *(self.for_task(task).sample_rate for task in self.tasks)])

    @property
    def roles(self) -> list[ModelRole]:
        """The roles of the models that the enabled tasks use."""
        return [role for role in ModelRole if role.task in self.tasks and self.name_of(role)]

    @property
    def tasks(self) -> frozenset[Task]:
        """The tasks whose model is enabled."""
        return frozenset(task for task in Task if self.for_task(task).enabled)
