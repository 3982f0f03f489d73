"""The faults of a model repository, by the rules of Triton and by what the service requires of models."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from inference_service.diagnosis import Contract, RuntimeFailed, contracts, find_labels, mismatches
from inference_service.settings import ModelsSettings
from infra.doctor.linter.config import Malformed, interface, line_of, parse
from infra.doctor.linter.files import CONFIG, Listing

#: What a backend reads from a version's folder, unless `default_model_filename` names another file.
_FILES = {
    "python": "model.py",
    "onnxruntime": "model.onnx",
    "tensorrt": "model.plan",
    "pytorch": "model.pt",
    "openvino": "model.xml",
    "dali": "model.dali",
    "vllm": "model.json",
}
#: Models whose files tell Triton their tensors, so that config.pbtxt may leave those out, or be missing.
_DESCRIBED = {
    "onnxruntime": "model.onnx",
    "onnxruntime_onnx": "model.onnx",
    "tensorrt": "model.plan",
    "tensorrt_plan": "model.plan",
    "openvino": "model.xml",
    "tensorflow_savedmodel": "model.savedmodel",
}
_PLATFORMS = {
    "onnxruntime_onnx": "model.onnx",
    "tensorrt_plan": "model.plan",
    "pytorch_libtorch": "model.pt",
    "tensorflow_savedmodel": "model.savedmodel",
    "tensorflow_graphdef": "model.graphdef",
}


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


def lint(listing: Listing, expected: ModelsSettings | None) -> list[Fault]:
    """The faults of a repository. `expected` are the service's models, None to accept any.

    A fault that the service would find too has the service's message.
    """
    wanted = contracts(expected) if expected is not None else {}
    faults: list[Fault] = []
    if not listing.models:
        faults.append(
            Fault(
                "",
                ".",
                None,
                "there is no model folder",
                "add a folder for each model, with config.pbtxt and 1/",
            )
        )
    for model in listing.models:
        faults += _Model(listing, model, wanted.get(model), expected).faults()
    for model in wanted.keys() - set(listing.models):
        near = difflib.get_close_matches(model, listing.models, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        faults.append(
            Fault(
                model,
                model,
                None,
                f"model {model} is not ready: it is not in the model repository{hint}",
                f"add the folder {model}, or set ai.models.*.model_name to a model in the repository "
                f"({', '.join(listing.models) or 'none'})",
            )
        )
    return sorted(faults, key=lambda fault: (fault.model, fault.path, fault.line or 0))


class _Model:
    def __init__(
        self, listing: Listing, name: str, contract: Contract | None, expected: ModelsSettings | None
    ) -> None:
        self.listing = listing
        self.name = name
        self.path = f"{name}/{CONFIG}"
        self.contract = contract
        self.expected = expected

    def faults(self) -> list[Fault]:
        text = self.listing.configs.get(self.name)
        if text is None and self._describes_itself():
            return list(self._versions(None))
        if text is None:
            message = f"model {self.name}: there is no {CONFIG}{self._instead()}"
            remedy = f"write {self.path}: name, backend, input, output (see model_repository/ for examples)"
            return [Fault(self.name, self.path, None, message, remedy), *self._versions(None)]
        if isinstance(text, bytes):
            return [Fault(self.name, self.path, None, f"{CONFIG} is not UTF-8 text", "save it as UTF-8")]
        try:
            config = parse(text)
        except Malformed as error:
            message = f"model {self.name}: {CONFIG} is malformed: {error}"
            return [
                Fault(self.name, self.path, error.line, message, f"correct line {error.line} of {self.path}")
            ]
        return [*self._identity(config, text), *self._tensors(config, text), *self._versions(config)]

    def _describes_itself(self) -> bool:
        """Whether a version has a file from which Triton generates the missing configuration."""
        versions = [name for name in self.listing.inside(self.name) if re.fullmatch(r"[1-9]\d*", name)]
        return any(
            file in self.listing.inside(f"{self.name}/{version}")
            for version in versions
            for file in _DESCRIBED.values()
        )

    def _instead(self) -> str:
        """A hint at the file that may have been meant as the configuration."""
        below = sorted(
            file
            for file in self.listing.files
            if re.fullmatch(rf"{re.escape(self.name)}/[^/]+/{CONFIG}", file)
        )
        if below:
            return f"; there is {below[0]}: is {self.name} the repository itself?"
        near = difflib.get_close_matches(CONFIG, self.listing.inside(self.name), n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def _fault(self, message: str, remedy: str, line: int | None = None, path: str | None = None) -> Fault:
        return Fault(self.name, path or self.path, line, f"model {self.name}: {message}", remedy)

    def _identity(self, config: Any, text: str) -> Iterator[Fault]:
        if config.name and config.name != self.name:
            yield self._fault(
                f"{CONFIG} names it {config.name!r}, and its folder is {self.name!r}",
                f'set name: "{self.name}", or rename the folder',
                line_of(text, ("name",)),
            )
        if not config.backend and not config.platform:
            yield self._fault(
                "neither backend nor platform is set", f'set backend in {self.path}, e.g. backend: "python"'
            )
        if config.max_batch_size < 0:
            yield self._fault(
                f"max_batch_size is {config.max_batch_size}",
                "set max_batch_size to 0 (no batching) or more",
                line_of(text, ("max_batch_size",)),
            )

    def _tensors(self, config: Any, text: str) -> Iterator[Fault]:
        complete = config.backend not in _DESCRIBED and config.platform not in _DESCRIBED
        for kind, tensors in (("input", config.input), ("output", config.output)):
            if not tensors and complete:
                yield self._fault(f"no {kind} is declared", f"declare every {kind}: name, data_type, dims")
            seen: Counter[str] = Counter()
            for tensor in tensors:
                seen[tensor.name] += 1
                line = line_of(text, (kind, "name"), tensor.name, seen[tensor.name])
                if not tensor.name:
                    yield self._fault(f"an {kind} has no name", f"give every {kind} a name")
                elif seen[tensor.name] == 2:
                    yield self._fault(f"{kind} {tensor.name!r} is declared twice", "remove one of them", line)
                if not tensor.data_type:
                    yield self._fault(
                        f"{kind} {tensor.name!r} has no data_type", "set data_type, e.g. TYPE_FP32", line
                    )
                if not tensor.dims:
                    yield self._fault(f"{kind} {tensor.name!r} has no dims", "set dims, e.g. [ -1 ]", line)
                elif any(size == 0 or size < -1 for size in tensor.dims):
                    yield self._fault(
                        f"{kind} {tensor.name!r} has dims {list(tensor.dims)}",
                        "dims are lengths from 1, or -1 for any",
                        line,
                    )
        if complete or (config.input and config.output):
            yield from self._contract(config, text)

    def _contract(self, config: Any, text: str) -> Iterator[Fault]:
        if self.contract is None or self.expected is None:
            return
        for message in mismatches(self.contract, interface(config)):
            tensor = re.search(r"(input|output) '?([^' ]+)", message)
            line = line_of(text, (tensor[1], "name"), tensor[2]) if tensor else None
            yield Fault(self.name, self.path, line, message, _renamed(self.expected, self.name))
        emotion = self.expected.emotion
        if self.name in (emotion.model_name, emotion.text_model_name) and emotion.labels_path is None:
            output = next((each for each in config.output if each.name == emotion.output_names[0]), None)
            try:
                labels = find_labels(self.name, None, config)
            except RuntimeFailed as error:
                yield Fault(
                    self.name, self.path, None, str(error), "add the parameter labels to config.pbtxt"
                )
                return
            if output is not None and output.dims and output.dims[-1] not in (-1, len(labels)):
                yield self._fault(
                    f"{len(labels)} labels for {output.dims[-1]} logits in {output.name!r}",
                    "make the labels and the output's dims the same number",
                    line_of(text, ("output", "name"), output.name),
                )

    def _versions(self, config: Any) -> Iterator[Fault]:
        inside = self.listing.inside(self.name)
        folders = {name for name in inside if f"{self.name}/{name}" in self.listing.folders}
        versions = sorted((name for name in folders if re.fullmatch(r"[1-9]\d*", name)), key=int)
        if not versions:
            zeros = sorted(name for name in folders if name.isdigit())
            hint = f" ({zeros[0]} is not one: versions begin at 1, without leading zeros)" if zeros else ""
            yield self._fault(
                f"there is no version folder{hint}",
                f"put the model's files into {self.name}/1/",
                path=self.name,
            )
            return
        if config is None:
            return
        if config.version_policy.HasField("specific"):
            for number in config.version_policy.specific.versions:
                if str(number) not in versions:
                    yield self._fault(
                        f"version_policy requires version {number}; the folder has {', '.join(versions)}",
                        f"add {self.name}/{number}/, or change version_policy",
                    )
        yield from self._backend_files(config, versions)

    def _backend_files(self, config: Any, versions: list[str]) -> Iterator[Fault]:
        if config.platform == "ensemble":
            if not config.ensemble_scheduling.step:
                yield self._fault(
                    "the ensemble has no step", "add ensemble_scheduling with a step for each model"
                )
            for step in config.ensemble_scheduling.step:
                if step.model_name not in self.listing.models:
                    yield self._fault(
                        f"the ensemble's step {step.model_name} is not in the model repository",
                        f"add the model {step.model_name}, or correct the step",
                    )
            return
        wanted = (
            config.default_model_filename or _FILES.get(config.backend) or _PLATFORMS.get(config.platform)
        )
        if wanted is None:
            return  # a backend with unknown files
        for version in versions:
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
