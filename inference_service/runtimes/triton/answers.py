"""A model's answer, checked, as the result of a task."""

from collections.abc import Sequence
from math import exp

import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from inference_service.errors import RuntimeFailed
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    Segment,
    SynthesisResult,
    Transcript,
)


class Answer:
    """A response's outputs by name, each checked when it is read; every problem is a RuntimeFailed."""

    def __init__(self, response: pb.ModelInferResponse) -> None:
        self.model = response.model_name
        self._outputs = {
            output.name: (output, raw)
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)
        }

    def floats(self, name: str) -> NDArray[np.float32]:
        """Output `name` as float32, flat, every value finite."""
        values = np.frombuffer(self._bytes(name, "FP32"), dtype=np.float32)
        if not np.isfinite(values).all():
            raise RuntimeFailed(f"model {self.model}: output {name!r} has values that are not finite")
        return values

    def last_row(self, name: str) -> NDArray[np.float32]:
        """The last row of output `name`, which may hold infinities (the logit of a token never chosen)."""
        values = np.frombuffer(self._bytes(name, "FP32"), dtype=np.float32)
        shape = self._outputs[name][0].shape
        width = shape[-1] if shape else 1
        if not width or len(values) < width:
            raise RuntimeFailed(f"model {self.model}: output {name!r} is empty")
        return values[-width:]

    def probability(self, name: str) -> float:
        """Output `name`, which holds one number from 0 to 1."""
        values = self.floats(name)
        if len(values) != 1:
            raise RuntimeFailed(f"model {self.model}: output {name!r} has {len(values)} values, expected 1")
        value = float(values[0])
        # float32 rounding may put 0 or 1 slightly outside.
        if not -1e-6 <= value <= 1 + 1e-6:
            raise RuntimeFailed(
                f"model {self.model}: output {name!r} is {value}, expected a value from 0 to 1"
            )
        return min(max(value, 0.0), 1.0)

    def text(self, name: str) -> str:
        """Output `name`, which holds one string."""
        raw = self._bytes(name, "BYTES")
        length = int.from_bytes(raw[:4], "little")
        if len(raw) != 4 + length:
            raise RuntimeFailed(f"model {self.model}: output {name!r} is not one string")
        try:
            return raw[4:].decode()
        except UnicodeDecodeError as error:
            raise RuntimeFailed(f"model {self.model}: output {name!r} is not UTF-8: {error}") from error

    def has(self, name: str) -> bool:
        """Whether the response has this output."""
        return name in self._outputs

    def _bytes(self, name: str, datatype: str) -> bytes:
        if name not in self._outputs:
            there = ", ".join(self._outputs) or "none"
            raise RuntimeFailed(
                f"model {self.model}: output {name!r} is missing from its answer; it has {there}"
            )
        output, raw = self._outputs[name]
        if output.datatype != datatype:
            raise RuntimeFailed(
                f"model {self.model}: output {name!r} has datatype {output.datatype}, expected {datatype}"
            )
        return raw


def transcript(answer: Answer, names: Sequence[str], language: str, duration_ms: int) -> DetailedTranscript:
    """A transcript. `names` are the outputs with its text, confidence, language and segments.

    Each but the first may be missing from the model: "" or left out. `language` is then the transcript's.
    """
    text, confidence, spoken, segments = (*names, "", "", "")[:4]
    found: list[Segment] = []
    if segments and answer.has(segments):
        try:
            found = msgspec.json.decode(answer.text(segments), type=list[Segment])
        except msgspec.DecodeError as error:
            raise RuntimeFailed(f"output {segments!r}: {error}") from error
    return DetailedTranscript(
        Transcript(
            text=answer.text(text),
            confidence=answer.probability(confidence) if confidence else None,
            language=answer.text(spoken) if spoken else language,
            duration_ms=duration_ms,
        ),
        found,
    )


def shares(answer: Answer, name: str, labels: Sequence[str]) -> list[float]:
    """The softmax of the logits in output `name`, one for each of `labels`."""
    logits = answer.floats(name).tolist()
    if len(labels) != len(logits):
        raise RuntimeFailed(f"model {answer.model}: {len(logits)} logits for {len(labels)} labels")
    top = max(logits)
    powers = [exp(logit - top) for logit in logits]  # faster than numpy for so few
    total = sum(powers)
    return [power / total for power in powers]


def emotion(scores: Sequence[Sequence[float]], labels: Sequence[str], duration_ms: int) -> EmotionResult:
    """The likeliest of `labels` by the mean of the windows' scores."""
    means = [sum(each) / len(scores) for each in zip(*scores, strict=True)]
    best = max(range(len(labels)), key=means.__getitem__)
    return EmotionResult(
        labels[best],
        confidence=means[best],
        emotions=dict(zip(labels, means, strict=True)),
        duration_ms=duration_ms,
    )


def synthesis(scores: Sequence[float], duration_ms: int) -> SynthesisResult:
    """Whether the speech is synthetic: it is where the mean of the windows' probabilities is over 0.5."""
    score = sum(scores) / len(scores)
    return SynthesisResult(
        is_synthetic=score > 0.5, confidence=max(score, 1.0 - score), score=score, duration_ms=duration_ms
    )
