"""The faults of a model repository, by the rules of Triton and by what the service requires of models."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inference_service.diagnosis import Contract, contracts, mismatches, model_labels
from inference_service.model_cards import CARD, MalformedCard
from inference_service.model_cards import parse as parse_card
from inference_service.settings import ModelsSettings
from infra.doctor.linter.config import Malformed, interface, line_of, parse
from infra.doctor.linter.files import Listing
from infra.models.backends import CONFIG, DESCRIBING, FILES, TENSORRT, needs

_VERSION = re.compile(r"[1-9]\d*")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `line` is a line of the file `path`, None for the whole file or folder."""

    model: str
    path: str
    line: int | None
    message: str
    remedy: str

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{where}: {self.message}"


def lint(
    listing: Listing, expected: ModelsSettings | None, backends: Sequence[str] | None = None
) -> list[Fault]:
    """The faults of a repository. `expected` are the service's models, None to accept any.

    `backends` are those that the node's Triton has, None for all. A fault that the service would find too
    has the service's message.
    """
    wanted = contracts(expected) if expected is not None else {}
    faults: list[Fault] = []
    if not listing.models:
        remedy = "add a folder for each model, with config.pbtxt and 1/"
        faults.append(Fault("", ".", None, "there is no model folder", remedy))
    for model in listing.models:
        faults += _Model(listing, model, wanted.get(model), expected, backends).faults()
    for model in wanted.keys() - set(listing.models):
        near = difflib.get_close_matches(model, listing.models, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        message = f"model {model} is not ready: it is not in the model repository{hint}"
        remedy = (
            f"add the folder {model}, or set ai.models.*.model_name to a model in the repository "
            f"({', '.join(listing.models) or 'none'})"
        )
        faults.append(Fault(model, model, None, message, remedy))
    return sorted(faults, key=lambda fault: (fault.model, fault.path, fault.line or 0))


@dataclass
class _Model:
    listing: Listing
    name: str
    contract: Contract | None
    expected: ModelsSettings | None
    backends: Sequence[str] | None

    def __post_init__(self) -> None:
        self.path = f"{self.name}/{CONFIG}"
        self.inside = self.listing.inside(self.name)
        #: The version folders, by number.
        self.versions = sorted((name for name in self._folders() if _VERSION.fullmatch(name)), key=int)

    def _folders(self) -> set[str]:
        return {name for name in self.inside if f"{self.name}/{name}" in self.listing.folders}

    def faults(self) -> Iterator[Fault]:
        text = self.listing.configs.get(self.name)
        yield from self._backend(text if isinstance(text, str) else "")
        if isinstance(text, bytes):
            yield Fault(self.name, self.path, None, f"{CONFIG} is not UTF-8 text", "save it as UTF-8")
            return
        if text is None:
            if not self._describes_itself():
                example = "name, backend, input, output (see model_repository/ for examples)"
                remedy = f"write {self.path}: {example}"
                yield self._fault(f"there is no {CONFIG}{self._instead()}", remedy)
            yield from self._version_folders()
            return
        try:
            config = parse(text)
        except Malformed as error:
            remedy = f"correct line {error.line} of {self.path}"
            yield self._fault(f"{CONFIG} is malformed: {error}", remedy, error.line)
            return
        yield from self._identity(config, text)
        yield from self._card(config, text)
        yield from self._tensors(config, text)
        yield from self._version_folders()
        if self.versions:
            yield from self._backend_files(config)

    def _backend(self, text: str) -> Iterator[Fault]:
        """The backend that the node lacks, if the service uses the model: others are not loaded."""
        inside = (name for version in self.versions for name in self.listing.inside(f"{self.name}/{version}"))
        backend = needs(text, inside).backend
        if self.backends is None or backend is None or backend in self.backends:
            return
        if self.contract is not None or self.expected is None:
            yield self._fault(
                f"needs Triton's backend {backend}; the node's Triton has {' and '.join(self.backends)} only",
                "serve the model on a node that has the backend, or export it to ONNX",
                line_of(text, ("backend",)) or line_of(text, ("platform",)),
            )

    def _describes_itself(self) -> bool:
        """Whether a version has a file from which Triton generates the missing configuration."""
        folders = (f"{self.name}/{version}" for version in self.versions)
        return any(DESCRIBING & self.listing.inside(folder) for folder in folders)

    def _instead(self) -> str:
        """A hint at the file that may have been meant as the configuration."""
        misplaced = re.compile(rf"{re.escape(self.name)}/[^/]+/{CONFIG}")
        below = sorted(filter(misplaced.fullmatch, self.listing.files))
        if below:
            return f"; there is {below[0]}: is {self.name} the repository itself?"
        near = difflib.get_close_matches(CONFIG, self.inside, n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def _fault(self, message: str, remedy: str, line: int | None = None, path: str | None = None) -> Fault:
        return Fault(self.name, path or self.path, line, f"model {self.name}: {message}", remedy)

    def _identity(self, config: Any, text: str) -> Iterator[Fault]:
        if config.name and config.name != self.name:
            message = f"{CONFIG} names it {config.name!r}, and its folder is {self.name!r}"
            remedy = f'set name: "{self.name}", or rename the folder'
            yield self._fault(message, remedy, line_of(text, ("name",)))
        if not config.backend and not config.platform:
            yield self._fault(
                "neither backend nor platform is set", f'set backend in {self.path}, e.g. backend: "python"'
            )
        if config.max_batch_size < 0:
            message = f"max_batch_size is {config.max_batch_size}"
            remedy = "set max_batch_size to 0 (no batching) or more"
            yield self._fault(message, remedy, line_of(text, ("max_batch_size",)))
        if FILES.get(config.backend or config.platform) == FILES[TENSORRT] and any(
            group.kind == group.KIND_CPU for group in config.instance_group
        ):
            yield self._fault(
                "a TensorRT plan runs on GPUs only, and instance_group has KIND_CPU",
                "set kind: KIND_GPU, or leave instance_group out",
                line_of(text, ("instance_group", "kind"), "KIND_CPU"),
            )

    def _card(self, config: Any, text: str) -> Iterator[Fault]:
        """A malformed card leaves the model unknown to clients, although Triton loads it."""
        if CARD not in config.parameters:
            return
        try:
            parse_card(config.parameters[CARD].string_value)
        except MalformedCard as error:
            remedy = "correct it: model_repository/README.md describes its fields"
            yield self._fault(str(error), remedy, line_of(text, ("parameters", "key"), CARD))

    def _tensors(self, config: Any, text: str) -> Iterator[Fault]:
        complete = _file(config) not in DESCRIBING
        for kind, tensors in (("input", config.input), ("output", config.output)):
            if not tensors and complete:
                yield self._fault(f"no {kind} is declared", f"declare every {kind}: name, data_type, dims")
            seen: Counter[str] = Counter()
            for tensor in tensors:
                seen[tensor.name] += 1
                line = line_of(text, (kind, "name"), tensor.name, seen[tensor.name])
                name = f"{kind} {tensor.name!r}"
                if not tensor.name:
                    yield self._fault(f"an {kind} has no name", f"give every {kind} a name")
                elif seen[tensor.name] == 2:
                    yield self._fault(f"{name} is declared twice", "remove one of them", line)
                if not tensor.data_type:
                    yield self._fault(f"{name} has no data_type", "set data_type, e.g. TYPE_FP32", line)
                if not tensor.dims:
                    yield self._fault(f"{name} has no dims", "set dims, e.g. [ -1 ]", line)
                elif any(size == 0 or size < -1 for size in tensor.dims):
                    remedy = "dims are lengths from 1, or -1 for any"
                    yield self._fault(f"{name} has dims {list(tensor.dims)}", remedy, line)
        if complete or (config.input and config.output):
            yield from self._contract(config, text)

    def _contract(self, config: Any, text: str) -> Iterator[Fault]:
        if self.contract is None or self.expected is None:
            return
        for message in mismatches(self.contract, interface(config)):
            tensor = re.search(r"(input|output) '?([^' ]+)", message)
            line = line_of(text, (tensor[1], "name"), tensor[2]) if tensor else None
            yield Fault(self.name, self.path, line, message, _renamed(self.expected, self.name))
        described = interface(config)
        width = described.width(self.contract.outputs[0].name) if self.contract.outputs else -1
        for message in model_labels(self.expected, self.name, width, config)[1]:
            yield Fault(
                self.name,
                self.path,
                line_of(text, ("parameters", "key"), "labels"),
                message,
                "make the parameter labels in config.pbtxt a JSON list with one label for each logit",
            )

    def _version_folders(self) -> Iterator[Fault]:
        if not self.versions:
            zeros = sorted(name for name in self._folders() if name.isdigit())
            hint = f" ({zeros[0]} is not one: versions begin at 1, without leading zeros)" if zeros else ""
            remedy = f"put the model's files into {self.name}/1/"
            yield self._fault(f"there is no version folder{hint}", remedy, path=self.name)

    def _backend_files(self, config: Any) -> Iterator[Fault]:
        for number in config.version_policy.specific.versions:
            if str(number) not in self.versions:
                there = ", ".join(self.versions)
                yield self._fault(
                    f"version_policy requires version {number}; the folder has {there}",
                    f"add {self.name}/{number}/, or change version_policy",
                )
        if config.platform == "ensemble":
            if not config.ensemble_scheduling.step:
                remedy = "add ensemble_scheduling with a step for each model"
                yield self._fault("the ensemble has no step", remedy)
            for step in config.ensemble_scheduling.step:
                if step.model_name not in self.listing.models:
                    yield self._fault(
                        f"the ensemble's step {step.model_name} is not in the model repository",
                        f"add the model {step.model_name}, or correct the step",
                    )
            return
        wanted = config.default_model_filename or _file(config)
        if wanted is None:
            return  # a backend with unknown files
        for version in self.versions:
            path = f"{self.name}/{version}/{wanted}"
            if path not in self.listing.files and path not in self.listing.folders:
                files = ", ".join(sorted(self.listing.inside(f"{self.name}/{version}"))) or "nothing"
                yield self._fault(
                    f"version {version} has no {wanted}, which {config.backend or config.platform} reads; "
                    f"it has {files}",
                    f"put {wanted} into {self.name}/{version}/, or set default_model_filename",
                    path=path,
                )
            elif self.listing.files.get(path) == 0:
                yield self._fault(f"{wanted} of version {version} is empty", "copy the file again", path=path)


def _file(config: Any) -> str | None:
    """The file that the model's backend or platform reads, where it is known."""
    return FILES.get(config.backend) or FILES.get(config.platform)


def _renamed(expected: ModelsSettings, model: str) -> str:
    """The remedy that names the service's settings of a model's tensors."""
    keys = {"asr": expected.asr, "emotion": expected.emotion, "synthesis": expected.synthesis}
    key = next((key for key, settings in keys.items() if settings.model_name == model), None)
    if model == expected.asr.decoder_path:
        return "correct config.pbtxt, or set ai.models.asr.decoder_input_names and decoder_output_names"
    if key is None:
        return "correct config.pbtxt"
    names = f"ai.models.{key}.input_name, output_names, input_type"
    return f"correct config.pbtxt, or set {names} to what the model has"
