"""What a model says of itself.

A model says it in the parameter `model_card` of its config.pbtxt, as the JSON of `ModelCard`. Triton serves a
model's configuration, but none of its files, so this is the one place that every node can read. What a card
leaves out is unknown; nobody fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec

from inference_service.tasks import ModelKind, Task

#: The parameters of config.pbtxt: the card, and the digest of the model's folder (16 hex digits).
CARD = "model_card"
CONTENT_HASH = "content_hash"


#: The kinds that `ai.models.allow_rules: false` refuses.
RULES = frozenset({ModelKind.RULE, ModelKind.LEXICON})

#: How to replace a rule or a lexicon.
GET_A_NEURAL_MODEL = (
    "`python -m infra.models list` names neural models; "
    "`python -m infra.models export NAME --to DIR` makes one of them a model folder"
)


class ModelRole(StrEnum):
    """What a configured model is for. Emotion has two models: one hears a voice, one reads a text."""

    ASR = "asr"
    EMOTION = "emotion"
    EMOTION_TEXT = "emotion_text"
    SYNTHESIS = "synthesis"

    @property
    def task(self) -> Task:
        """The task that a model in this role does."""
        return Task.EMOTION if self is ModelRole.EMOTION_TEXT else Task[self.name]

    @staticmethod
    def of(task: Task, *, text: bool = False) -> ModelRole:
        """The role of the model that does `task` on audio, or on `text`."""
        return ModelRole.EMOTION_TEXT if text else ModelRole[task.name]


class Measurement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured figure of a model's quality, and what it was measured on."""

    metric: Annotated[str, msgspec.Meta(min_length=1, examples=["word error rate"])]
    value: float
    test_set: Annotated[str, msgspec.Meta(min_length=1)]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a model says of itself. A field that is None or empty is not said.

    `method`: what the model is, in a few words. `languages`: codes, such as `en`, of the languages that it
    was made for. `caveat`: what its answers cannot be trusted with.
    """

    kind: ModelKind = ModelKind.UNKNOWN
    method: str | None = None
    languages: list[str] | None = None
    licence: str | None = None
    quality: list[Measurement] = []
    caveat: str | None = None


class ModelDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One model in `/info`: its name in the runtime, its content hash as `version`, and its card.

    None is unknown. `error` is the reason why the model or its card cannot be read.
    """

    name: str
    version: str | None = None
    kind: ModelKind = ModelKind.UNKNOWN
    method: str | None = None
    languages: list[str] | None = None
    licence: str | None = None
    quality: list[Measurement] = []
    caveat: str | None = None
    error: str | None = None


class MalformedCard(ValueError):
    """A parameter `model_card` that is no card; `str(error)` is the reason."""


def parse(text: str) -> ModelCard:
    """The card in the value of the parameter `model_card`. Raises MalformedCard."""
    try:
        return msgspec.json.decode(text, type=ModelCard)
    except msgspec.DecodeError as error:
        raise MalformedCard(f"parameter {CARD}: {error}") from None


def describe(name: str, parameters: Mapping[str, str]) -> ModelDescription:
    """The description of the model `name` from the parameters of its config.pbtxt.

    A malformed card is the description's `error`, because a model without a card works all the same.
    """
    version = parameters.get(CONTENT_HASH)
    try:
        card = parse(parameters[CARD]) if CARD in parameters else ModelCard()
    except MalformedCard as error:
        return ModelDescription(name=name, version=version, error=str(error))
    return ModelDescription(name=name, version=version, **msgspec.structs.asdict(card))
