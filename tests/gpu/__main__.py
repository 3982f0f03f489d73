"""`python -m tests.gpu`: the speech model on the GPUs of this computer, checked and measured.

Triton and the inference service run as in the embedded stack, from wheels. The checks: the transcripts, the
sizes of the batches that Triton hands to the model, memory and use of the devices. Then the benchmark of
speech runs, beside faster-whisper on the same GPU. Exit status 0: all checks hold, or there is no GPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import jiwer
import tritonclient.grpc

from tests.bench.row import Row, show
from tests.bench.service import service
from tests.bench.speech import RATE, Model, read, recognition
from tests.bench.words import plain
from tests.gpu import nvidia
from tests.triton_server import ROOT, triton_server

RECORDING = ROOT / "recordings" / "inaugural-1961.flac"
# Memory that the weights and one batch take at least, in MiB.
LEAST_MEMORY = 100
RESULT = ROOT / "build" / "gpu.json"


def checks(folder: Path, clips: int = 128) -> list[Row]:
    """Rows on transcripts, batches and devices, with the default weights; `clips` are sent at once."""
    before = {gpu.index: gpu for gpu in nvidia.gpus()}
    expected = plain(RECORDING.with_suffix(".txt").read_text(encoding="utf-8"))
    speech = read(RECORDING)
    off = {"AI__MODELS__EMOTION__ENABLED": "false", "AI__MODELS__SYNTHESIS__ENABLED": "false"}
    with (
        nvidia.Watch() as watch,
        triton_server(folder, models=["asr"], environment={"ASR_MODEL_PATH": "base"}) as ports,
        service(folder, ports.grpc, **off) as (_, http),
    ):
        through_service = _asr(http)
        model = Model(f"127.0.0.1:{ports.grpc}", folder)
        with ThreadPoolExecutor(32) as pool:
            texts = [text for text, _, _ in pool.map(model.transcribe, [speech] * clips)]
            list(pool.map(model.transcribe, [speech[: 3 * RATE]] * 2 * clips))
        sizes = batch_sizes(f"127.0.0.1:{ports.grpc}")
    errors = [jiwer.wer(expected, plain(text)) for text in [through_service, *texts]]
    rows = [
        Row(
            f"worst word error rate of {len(errors)} transcripts",
            f"{max(errors):.3f}",
            max(errors),
            0.05,
            "less",
        ),
        Row("largest batch that Triton handed over", f"{sizes}", max(sizes), 2, "more"),
    ]
    for index, most in watch.most.items():
        memory = most.used - before[index].used
        rows += [
            Row(f"GPU {index}, {most.name}: memory in MiB", f"of {most.total}", memory, LEAST_MEMORY, "more"),
            Row(f"GPU {index}, {most.name}: most use in %", f"{most.busy} %", most.busy, 1, "more"),
        ]
    return rows


def batch_sizes(address: str) -> dict[int, int]:
    """How often Triton handed the speech model so many requests at once, by their number."""
    statistics = tritonclient.grpc.InferenceServerClient(address).get_inference_statistics("asr")
    return {batch.batch_size: batch.compute_infer.count for batch in statistics.model_stats[0].batch_stats}


def _asr(http: int) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{http}/api/v1/ai/asr", RECORDING.read_bytes(), {"Content-Type": "audio/flac"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["data"]["text"])


def main() -> int:
    """Check, measure, print the table and write it as JSON. Returns the exit status."""
    if not nvidia.present():
        print("make gpu: no nvidia-smi here, so no NVIDIA GPU: nothing to check")
        return 0
    try:
        for gpu in nvidia.gpus():
            print(f"GPU {gpu.index}: {gpu.name}, {gpu.total} MiB, {gpu.used} MiB in use")
    except RuntimeError as error:
        print(f"make gpu: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="gpu-") as name:
        rows = checks(Path(name))
    held = all(row.reached for row in rows)
    # For comparison: the goals of these are those of the CPU.
    rows += recognition("tiny.en") + recognition("base")
    show(rows)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps([{**asdict(row), "reached": row.reached} for row in rows], indent=2) + "\n")
    print(f"\nwritten to {RESULT}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
