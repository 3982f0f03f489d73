"""The configured models as Triton has them: which are ready, and whether their tensors are as expected."""

import asyncio
import dataclasses
from dataclasses import dataclass

from msgspec.structs import replace

from inference_service.errors import NotReady, ServiceError
from inference_service.model_cards import RULES, ModelDescription, ModelRole, describe
from inference_service.runtimes.triton.client import TritonClient
from inference_service.runtimes.triton.contract import ANY, Interface, contracts, mismatches
from inference_service.runtimes.triton.labels import model_labels
from inference_service.runtimes.triton.languages import languages_of
from inference_service.runtimes.triton.revival import Revival
from inference_service.settings import ModelsSettings
from inference_service.tasks import Task

#: Seconds after which a check of readiness or a description asks Triton again: a model can be loaded anew.
_MAX_AGE = 5.0

_ABSENT = "it is not in the model repository"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model since Triton came up: its tensors, how they differ from the contract, what it says of itself,
    its labels, and the event loop's time at which Triton was asked."""

    interface: Interface
    problems: tuple[str, ...]
    description: ModelDescription
    asked_at: float
    labels: tuple[str, ...] = ()


class TritonModels:
    """Asks Triton for each model, and remembers the answer for inferences."""

    def __init__(self, client: TritonClient, revival: Revival, settings: ModelsSettings) -> None:
        self._client = client
        self._revival = revival
        self._settings = settings
        self._contracts = contracts(settings)
        self._loaded: dict[str, LoadedModel] = {}

    def forget(self) -> None:
        """Triton was restarted, perhaps with other models."""
        self._loaded.clear()

    async def get(self, name: str) -> LoadedModel:
        """The model called `name`. Raises NotReady if it does not match its contract: another node's may."""
        loaded = self._loaded.get(name) or await self._inspect(name)
        if loaded.problems:
            raise NotReady("; ".join(loaded.problems))
        return loaded

    def known(self, role: ModelRole) -> ModelDescription | None:
        """What the model in this role said of itself when Triton was last asked; None: not yet asked."""
        loaded = self._loaded.get(self._settings.name_of(role) or "")
        return loaded.description if loaded else None

    async def describe(self, name: str) -> ModelDescription:
        """What the model called `name` says of itself. Raises NotReady while Triton has not loaded it."""
        loaded = await self._recent(name)
        if loaded.description.languages is None and name == self._settings.asr.model_name:
            spoken = await languages_of(name, loaded.interface, self._settings.asr, self._client)
            description = replace(loaded.description, languages=spoken)
            self._loaded[name] = dataclasses.replace(loaded, description=description)
            return description
        return loaded.description

    async def _recent(self, name: str) -> LoadedModel:
        loaded = self._loaded.get(name)
        if loaded is None or asyncio.get_running_loop().time() - loaded.asked_at > _MAX_AGE:
            return await self._inspect(name)
        return loaded

    async def problems(self) -> list[str]:
        """What keeps any configured model from being ready. Raises ServiceError."""
        # Triton's own readiness is not asked. A model that it unloads makes it "not ready" for a while, and
        # one that it refused until its next start, also when it is gone; it serves the others.
        index = await self._client.repository_index()
        problems: list[str] = []
        ready_models = []
        for model in self._contracts:
            state, reason = index.get(model, ("", _ABSENT))
            if (dead := self._revival.problem(model)) is not None:
                problems.append(dead)
            elif state == "READY":
                ready_models.append(model)
            else:
                self._loaded.pop(model, None)
                problems.append(
                    f"model {model} is not ready: {reason or state.lower() or 'it is not loaded'}"
                )
        for model_problems in await asyncio.gather(*map(self._problems_of, ready_models)):
            problems += model_problems
        return problems

    async def load_missing(self, task: Task, time_limit: float) -> None:
        """Load those of the task's models that are not ready, each within `time_limit` seconds.

        Raises NotReady with Triton's reason for the model where it loads none on request.
        """
        index = await self._client.repository_index()
        for name in self._names(task):
            if name not in index:
                raise NotReady(f"model {name} is not ready: {_ABSENT}")
            state, reason = index[name]
            if state == "READY":
                continue
            try:
                await self._client.load(name, time_limit)
            except NotReady as error:
                raise NotReady(f"model {name} is not ready: {reason}" if reason else str(error)) from error

    def _names(self, task: Task) -> list[str]:
        second = {
            Task.ASR: self._settings.asr.decoder_path,
            Task.EMOTION: self._settings.emotion.text_model_name,
        }.get(task)
        model = self._settings.for_task(task)
        return [*model.requires, model.model_name, *([second] if second else [])]

    async def _problems_of(self, name: str) -> list[str]:
        try:
            model = await self._recent(name)
            # A model that the node does not use because of its kind need not match its contract.
            if not self._settings.allow_rules and model.description.kind in RULES:
                return []
            return list(model.problems)
        except ServiceError as error:
            return [str(error)]

    async def _inspect(self, name: str) -> LoadedModel:
        metadata, config = await asyncio.gather(self._client.metadata(name), self._client.config(name))
        interface = Interface.of(metadata, config)
        contract = self._contracts[name]
        problems = mismatches(contract, interface)
        width = interface.width(contract.outputs[0].name) if contract.outputs else ANY
        labels, wrong = model_labels(self._settings, name, width, config)
        problems += wrong
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        description = describe(name, parameters)
        if description.version is None:
            description = replace(description, version=self._settings.versions.get(name))
        asked_at = asyncio.get_running_loop().time()
        self._loaded[name] = LoadedModel(interface, tuple(problems), description, asked_at, labels)
        return self._loaded[name]
