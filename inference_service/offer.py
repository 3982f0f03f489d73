"""The tasks that a node offers, and what the models behind them say of themselves.

With `ai.models.allow_rules: false` the node does not offer a task whose model says that it is a rule or a
lexicon.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from inference_service.errors import NotHere, ServiceError, Unsupported
from inference_service.model_cards import GET_A_NEURAL_MODEL, RULES, ModelDescription, ModelRole
from inference_service.runtimes.base import Runtime
from inference_service.settings import ModelsSettings
from inference_service.tasks import EmotionResult, ModelKind, SynthesisResult, Task, Transcript

_R = TypeVar("_R", Transcript, EmotionResult, SynthesisResult)

#: Seconds in which a model is to describe itself.
_DESCRIBE_SECONDS = 1.1


def not_here(missing: Sequence[Task], asked: Sequence[Task]) -> NotHere:
    """The refusal of a request for the tasks `asked`, of which the settings switch `missing` off."""
    keys = ", ".join(f"ai.models.{task.model}.enabled" for task in missing)
    return NotHere(f"{' and '.join(missing)}: switched off on this node ({keys})", asked)


class Offer:
    """The configured models of one runtime."""

    def __init__(self, models: ModelsSettings, runtime: Runtime) -> None:
        self._models = models
        self._runtime = runtime

    @property
    def tasks(self) -> frozenset[Task]:
        """The tasks that are enabled, that the runtime can do, and that a model of an allowed kind does."""
        allowed = {role.task for role in self._models.roles if not self._is_refused(self._known(role))}
        return self._runtime.capabilities & self._models.tasks & allowed

    async def describe(self) -> dict[ModelRole, ModelDescription]:
        """What each model of the enabled tasks says of itself now. `error` is why it cannot be asked."""
        roles = self._models.roles
        return dict(zip(roles, await asyncio.gather(*map(self.describe_model, roles)), strict=True))

    async def describe_model(self, role: ModelRole) -> ModelDescription:
        """The same of one model."""
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                return await self._runtime.describe(role)
        except TimeoutError:
            reason = f"the {self._runtime.name} runtime did not answer within a second"
        except ServiceError as error:
            reason = str(error)
        return ModelDescription(name=self._models.name_of(role) or "", error=reason)

    def check(self, role: ModelRole) -> None:
        """Raise Unsupported if the role's task is disabled, if the runtime cannot do it, or if the model is
        known to be of a kind that is not allowed."""
        task = role.task
        if not self._models.for_task(task).enabled:
            raise not_here([task], [task])
        if task not in self._runtime.capabilities:
            raise Unsupported(f"the {self._runtime.name} runtime cannot do {task}")
        self._refuse(role, self._known(role))

    async def check_loaded(self, role: ModelRole) -> None:
        """Raise ServiceError if the model cannot be had now, such as NotReady while the runtime loads it.

        A runtime that does not say so in time may still do the work.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                await self._runtime.describe(role)

    async def check_kind(self, role: ModelRole) -> None:
        """Raise Unsupported if the model is of a kind that is not allowed. Asks the model where that is not
        known; raises ServiceError where it cannot be asked."""
        if not self._models.allow_rules:
            self._refuse(role, self._known(role) or await self._runtime.describe(role))

    def described(self, result: _R, role: ModelRole) -> _R:
        """`result` with the kind and the caveat of its model, unless another node has put them in."""
        model = self._known(role)
        if model is None or result.kind is not None:
            return result
        kind = None if model.kind is ModelKind.UNKNOWN else model.kind
        return msgspec.structs.replace(result, kind=kind, caveat=model.caveat)

    def _known(self, role: ModelRole) -> ModelDescription | None:
        return self._runtime.known(role)

    def _is_refused(self, model: ModelDescription | None) -> bool:
        return not self._models.allow_rules and model is not None and model.kind in RULES

    def _refuse(self, role: ModelRole, model: ModelDescription | None) -> None:
        if model is None or not self._is_refused(model):
            return
        what = f"{role.task} in text" if role is ModelRole.EMOTION_TEXT else str(role.task)
        raise Unsupported(
            f"{what}: the model {model.name} is a {model.kind}, and this node allows neural models only "
            f"(ai.models.allow_rules: false). {GET_A_NEURAL_MODEL}"
        )
