"""A minimal HTTP route in front of Triton: a Litestar route without checks, limits, metrics or logs.

The benchmarks compare the service with it, on any machine and with any load generator.
"""

from __future__ import annotations

import base64
import os
from functools import cache
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from litestar import Litestar, Request, get, post


@cache
def _client() -> tritonclient.grpc.aio.InferenceServerClient:
    return tritonclient.grpc.aio.InferenceServerClient(os.environ["TRITON"])


@post("/api/v1/ai/emotion", status_code=200)
async def emotion(request: Request[Any, Any, Any]) -> dict[str, Any]:
    if request.headers["content-type"] == "application/json":
        pcm = base64.b64decode((await request.json())["audio_data"])
    else:
        pcm = await request.body()
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    tensor = tritonclient.grpc.InferInput("audio_input", samples.shape, "FP32")
    tensor.set_data_from_numpy(samples)
    answer = await _client().infer("emotion", [tensor])
    return {"logits": answer.as_numpy("logits").tolist()}


@get("/")
async def ready() -> None: ...


app = Litestar([emotion, ready], request_max_body_size=None)
