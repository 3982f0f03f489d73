"""The tensors that the service expects of each Triton model, compared with those that Triton has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from inference_service.audio import mel
from inference_service.settings import AsrModelSettings, EmotionModelSettings, ModelSettings, ModelsSettings

ANY = -1  # a dimension of any length
_BANDS = -2  # a dimension that is one of Whisper's numbers of mel bands


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by name, Triton datatype and shape (without a batch dimension; -1 is any length).

    An expected tensor may have several datatypes, as "INT32 or INT64".
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.datatype} {list(self.shape)})"


@dataclass(frozen=True, slots=True)
class Contract:
    """The tensors by which the service calls one model."""

    model: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    #: Another model calls this one: the tensors are a matter of those two.
    internal: bool = False


def contracts(models: ModelsSettings) -> dict[str, Contract]:
    """The contract of every model that the enabled tasks use, by the model's name in Triton."""
    enabled: list[Contract] = []
    if models.asr.enabled:
        enabled += _asr(models.asr)
    if models.emotion.enabled:
        enabled += _emotion(models.emotion)
    if models.synthesis.enabled:
        enabled.append(
            Contract(
                models.synthesis.model_name,
                (_audio_input(models.synthesis),),
                (Tensor(models.synthesis.output_names[0], "FP32", (ANY,)),),
            )
        )
    called = {contract.model: contract for contract in enabled}
    required = (name for task in models.tasks for name in models.for_task(task).requires)
    return {name: Contract(name, (), (), internal=True) for name in required} | called


def _asr(asr: AsrModelSettings) -> list[Contract]:
    if asr.decoder_path is None:
        kinds = (("BYTES", False), ("FP32", False), ("BYTES", False), ("BYTES", True))
        outputs = tuple(
            Tensor(name, datatype, (1,), optional)
            for name, (datatype, optional) in zip(asr.output_names, kinds, strict=False)
            if name
        )
        inputs = [_audio_input(asr)]
        if asr.lengths_name:
            inputs.append(Tensor(asr.lengths_name, "INT32 or INT64", (1,)))
        if asr.prefix_name:
            inputs.append(Tensor(asr.prefix_name, "BYTES", (1,)))
        inputs += [
            Tensor(name, "BYTES", (1,), optional=True) for name in (asr.language_name, asr.options_name)
        ]
        return [Contract(asr.model_name, tuple(inputs), outputs)]
    encoded = (1, mel.WINDOW_FRAMES // 2, ANY)
    tokens, encoder_output = (*asr.decoder_input_names, "", "")[:2]
    return [
        Contract(
            asr.model_name,
            (Tensor(asr.input_name, "FP32", (1, _BANDS, mel.WINDOW_FRAMES)),),
            (Tensor(asr.output_names[0], "FP32", encoded),),
        ),
        Contract(
            asr.decoder_path,
            (Tensor(tokens, "INT64", (1, ANY)), Tensor(encoder_output, "FP32", encoded)),
            (Tensor(asr.decoder_output_names[0], "FP32", (1, ANY, ANY)),),
        ),
    ]


def _emotion(emotion: EmotionModelSettings) -> list[Contract]:
    logits = (Tensor(emotion.output_names[0], "FP32", (ANY,)),)
    expected = [Contract(emotion.model_name, (_audio_input(emotion),), logits)]
    if emotion.text_model_name:
        expected.append(Contract(emotion.text_model_name, (Tensor("text", "BYTES", (1,)),), logits))
    return expected


def _audio_input(model: ModelSettings) -> Tensor:
    return Tensor(model.input_name, "FP32", (ANY,) if model.input_type == "waveform" else (_BANDS, ANY))


def mel_bands(spectrogram: Tensor) -> int:
    """The bands of a model's spectrogram, [… bands, frames]: 80 where its configuration leaves it open."""
    bands = spectrogram.shape[-2]
    return mel.MEL_BANDS if bands == ANY else bands


@dataclass(frozen=True, slots=True)
class Interface:
    """A model's tensors as Triton has them, the batch dimension included."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    #: It answers with any number of responses, over a stream.
    decoupled: bool = False

    @staticmethod
    def of(metadata: Any, config: Any) -> Interface:
        """From Triton's `ModelMetadataResponse` and `ModelConfig`, which knows what is optional."""
        optional = {tensor.name for tensor in config.input if tensor.optional}

        def tensors(described: Iterable[Any]) -> dict[str, Tensor]:
            return {t.name: Tensor(t.name, t.datatype, tuple(t.shape), t.name in optional) for t in described}

        return Interface(
            tensors(metadata.inputs),
            tensors(metadata.outputs),
            decoupled=config.model_transaction_policy.decoupled,
        )

    def width(self, output: str) -> int:
        """The last dimension of an output, ANY where it is not known or not there."""
        tensor = self.outputs.get(output)
        return tensor.shape[-1] if tensor is not None and tensor.shape else ANY

    def shape_to_send(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` with a batch dimension of one in front where this model's input has one."""
        return (1, *shape) if len(self.inputs[name].shape) == len(shape) + 1 else shape


def mismatches(contract: Contract, interface: Interface) -> list[str]:
    """The differences that keep the service from calling the model: a line for each tensor, with its name."""
    if contract.internal:
        return []
    problems = [
        f"model {contract.model}: {problem}"
        for kind, expected, tensors in (
            ("input", contract.inputs, interface.inputs),
            ("output", contract.outputs, interface.outputs),
        )
        for tensor in expected
        if (problem := _mismatch(kind, tensor, tensors))
    ]
    sent = {tensor.name for tensor in contract.inputs}
    problems += [
        f"model {contract.model}: needs the input {tensor}, which the service does not send"
        for tensor in interface.inputs.values()
        if tensor.name not in sent and not tensor.optional
    ]
    if interface.decoupled:
        problems.append(
            f"model {contract.model}: is decoupled (model_transaction_policy), and the service expects one "
            "answer to a request"
        )
    return problems


def _mismatch(kind: str, expected: Tensor, tensors: dict[str, Tensor]) -> str | None:
    tensor = tensors.get(expected.name)
    if tensor is None:
        if expected.optional:
            return None
        names = ", ".join(map(str, tensors.values())) or "none"
        return f"{kind} {expected.name!r} is not there; Triton has {names}"
    if tensor.datatype not in expected.datatype.split(" or "):
        return f"{kind} {expected.name!r} has datatype {tensor.datatype}, expected {expected.datatype}"
    if not _fits(expected.shape, tensor.shape):
        wanted = " or ".join(
            str([bands if size == _BANDS else size for size in expected.shape])
            for bands in (mel.BANDS if _BANDS in expected.shape else (ANY,))
        )
        return f"{kind} {expected.name!r} has shape {list(tensor.shape)}, expected {wanted}"
    return None


def _fits(expected: Sequence[int], shape: Sequence[int]) -> bool:
    if len(shape) == len(expected) + 1 and shape[0] in (ANY, 1):
        shape = shape[1:]  # without the batch dimension
    return len(shape) == len(expected) and all(
        size == wanted or ANY in (size, wanted) or (wanted == _BANDS and size in mel.BANDS)
        for size, wanted in zip(shape, expected, strict=True)
    )
