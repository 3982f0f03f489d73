"""faster-whisper's batched pipeline in one process: what the speech model is measured against.

It computes on a GPU where there is one. Runs in the models' environment. Reads lines of JSON from standard
input, `{"audio": [paths of .npy files], "language": code or null}`, transcribes the files one after the other
as its users do, and writes a line for each: `{"seconds": wall time of all, "texts": […], "languages": […]}`.

    .venv-models/bin/python tests/bench/whisper_in_process.py FOLDER_OF_WEIGHTS THREADS
"""

import json
import sys
import time

import ctranslate2
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel


def main() -> None:
    folder, threads = sys.argv[1:]
    gpu = ctranslate2.get_cuda_device_count() > 0
    device, compute_type = ("cuda", "float16") if gpu else ("cpu", "int8")
    model = WhisperModel(folder, device=device, compute_type=compute_type, cpu_threads=int(threads))
    pipeline = BatchedInferencePipeline(model)
    for line in sys.stdin:
        task = json.loads(line)
        audio = [np.load(path) for path in task["audio"]]
        texts, languages = [], []
        began = time.perf_counter()
        for samples in audio:
            segments, info = pipeline.transcribe(samples, language=task["language"], batch_size=8)
            texts.append(" ".join(segment.text.strip() for segment in segments))
            languages.append(info.language)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "texts": texts, "languages": languages}), flush=True)


if __name__ == "__main__":
    main()
