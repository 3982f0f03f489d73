"""Exports an audio classifier of Transformers to ONNX. Needs the extra `convert`.

The graph takes waveforms [batch, samples] of 16 kHz, full scale ±1. It normalises each row itself, as the
checkpoint's feature extractor does. It knows no padding: all of a row is audio, and the rows of a batch have
one length. Audio under 0.1 s is continued with silence after the normalisation.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError

from infra.models.classifier import INPUT
from infra.models.problem import ModelProblem
from infra.paths import RECORDING

#: How far the graph's outputs may be from the checkpoint's.
TOLERANCE = 1e-3
RATE = 16000
#: Every opset from 17 has what the graphs need, and NVIDIA's Triton since 22.12 reads 17.
_OPSET = 17
_SHORTEST = RATE // 10
#: Seconds of the recording on which graph and checkpoint are compared; the first is under 0.1 s.
_COMPARED = ((0.0, 0.05), (0.0, 1.0), (2.0, 5.7), (0.0, 11.0))


@dataclass(frozen=True)
class Classifier:
    """A checkpoint in memory: the model, its feature extractor and its labels in the order of the logits."""

    model: Any
    extractor: Any
    labels: list[str]

    @property
    def architecture(self) -> str:
        return str(self.model.config.model_type)

    def logits(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """The checkpoint's own answer, [labels], for audio [samples]."""
        inputs = self.extractor(audio, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            return np.asarray(self.model(**inputs).logits[0].float().numpy(), np.float32)


def load(checkpoint: Path) -> Classifier:
    """Load the checkpoint in a folder. Raises ModelProblem if it is no classifier of waveforms."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint)
        model, report = transformers.AutoModelForAudioClassification.from_pretrained(
            checkpoint, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelProblem(f"{checkpoint} is no audio classifier of Transformers: {error}") from None
    if not isinstance(extractor, transformers.Wav2Vec2FeatureExtractor):
        raise ModelProblem(
            f"{checkpoint}: its input is made by {type(extractor).__name__}; classifiers of waveforms can be "
            "exported (wav2vec2, HuBERT, WavLM and others with Wav2Vec2FeatureExtractor)"
        )
    if extractor.sampling_rate != RATE:
        raise ModelProblem(
            f"{checkpoint} takes {extractor.sampling_rate} Hz, and only {RATE} Hz can be exported"
        )
    if missing := sorted(report["missing_keys"]):
        # Transformers would make random numbers of them.
        raise ModelProblem(f"{checkpoint}: its file of weights lacks {', '.join(missing[:3])}")
    names = model.config.id2label
    return Classifier(model.eval(), extractor, [str(names[index]) for index in range(len(names))])


def export(classifier: Classifier, graph: Path, output: str, synthetic: int | None) -> float:
    """Write the ONNX graph, compare it with the checkpoint on audio, and return the largest difference.

    The output is logits [batch, labels], or with `synthetic` (the index of a label) that label's probability
    [batch, 1]. Raises ModelProblem if the graph cannot be made, or differs by more than `TOLERANCE`.
    """
    module = _Waveforms(classifier, synthetic).eval()
    example = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, RATE)).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # dynamo=False: the exporter of torch.export refuses the padding, and Wav2Vec2Conformer, and takes
            # ten times as long (seen with torch 2.15). What a trace could miss, the comparison finds.
            torch.onnx.export(
                module,
                (example,),
                str(graph),
                input_names=[INPUT],
                output_names=[output],
                dynamic_axes={INPUT: {0: "batch", 1: "samples"}, output: {0: "batch"}},
                opset_version=_OPSET,
                dynamo=False,
            )
        except (RuntimeError, TypeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
            raise ModelProblem(f"{classifier.architecture} cannot be exported to ONNX: {error}") from None
    difference = _difference(classifier, graph, synthetic)
    if not difference <= TOLERANCE:  # also for NaN
        raise ModelProblem(
            f"the graph's outputs differ from the checkpoint's by {difference:.2g} (> {TOLERANCE:g})"
        )
    return difference


class _Waveforms(torch.nn.Module):
    """The model behind the feature extractor's normalisation."""

    def __init__(self, classifier: Classifier, synthetic: int | None) -> None:
        super().__init__()
        self.model = classifier.model
        self.normalises = bool(classifier.extractor.do_normalize)
        self.synthetic = synthetic

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        if self.normalises:
            variance = audio.var(-1, unbiased=False, keepdim=True)
            audio = (audio - audio.mean(-1, keepdim=True)) / torch.sqrt(variance + 1e-7)
        length = torch.clamp(torch._shape_as_tensor(audio)[1], min=_SHORTEST)
        silence = torch.zeros_like(audio[:, :1]).expand(-1, _SHORTEST)
        logits = self.model(input_values=torch.cat([audio, silence], 1)[:, :length]).logits
        if self.synthetic is None:
            return torch.as_tensor(logits)
        return torch.softmax(logits, -1)[:, self.synthetic : self.synthetic + 1]


def _difference(classifier: Classifier, graph: Path, synthetic: int | None) -> float:
    recording, rate = soundfile.read(RECORDING, dtype="float32")
    assert rate == RATE
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    largest = 0.0
    for begin, end in _COMPARED:
        audio = recording[int(begin * RATE) : int(end * RATE)]
        expected = [_expected(classifier, row, synthetic) for row in (audio, audio[::-1].copy())]
        # A batch, so that a row which looks at another one is found.
        answers = session.run(None, {INPUT: np.stack([audio, audio[::-1]])})[0]
        largest = max(largest, float(np.abs(answers - np.stack(expected)).max()))
    return largest


def _expected(
    classifier: Classifier, audio: NDArray[np.float32], synthetic: int | None
) -> NDArray[np.float32]:
    if len(audio) < _SHORTEST:
        # The extractor itself continues nothing, and the checkpoint would refuse some lengths.
        values = classifier.extractor(audio, sampling_rate=RATE, return_tensors="pt").input_values
        padded = torch.nn.functional.pad(values, (0, _SHORTEST - values.shape[1]))
        with torch.no_grad():
            logits = np.asarray(classifier.model(input_values=padded).logits[0].numpy())
    else:
        logits = classifier.logits(audio)
    if synthetic is None:
        return logits
    powers = np.exp(logits - logits.max())
    return np.asarray(powers[synthetic : synthetic + 1] / powers.sum(), np.float32)
