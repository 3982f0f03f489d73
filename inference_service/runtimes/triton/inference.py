"""One inference: a request of named tensors, the large one through shared memory, and its checked answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from inference_service.errors import RuntimeFailed, RuntimeTimeout
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton.client import ModelDied, SharedMemoryGone, TritonClient
from inference_service.runtimes.triton.revival import Revival
from inference_service.runtimes.triton.shared_memory import SharedMemoryPool, Slot
from inference_service.settings import ModelSettings

_T = TypeVar("_T")


@dataclass(slots=True)
class TensorSlot:
    """Memory for a large float32 tensor: in shared memory, else in this process, to be sent over gRPC."""

    array: NDArray[np.float32]  # [count]
    shared: Slot | None

    def add_to(self, request: pb.ModelInferRequest, name: str, shape: tuple[int, ...]) -> None:
        """Make this the request's input `name`; its first values fill `shape`."""
        tensor = request.inputs.add(name=name, datatype="FP32", shape=shape)
        count = prod(shape)
        if self.shared is None:
            request.raw_input_contents.append(self.array[:count].tobytes())
            return
        parameters = tensor.parameters
        parameters["shared_memory_region"].string_param = self.shared.name
        parameters["shared_memory_byte_size"].int64_param = 4 * count


class Inference:
    """Runs requests on a client, with tensors in slots from a pool."""

    def __init__(self, client: TritonClient, pool: SharedMemoryPool, revival: Revival) -> None:
        self._client = client
        self._pool = pool
        self._revival = revival

    @asynccontextmanager
    async def slot(self, count: int, *, longest: float) -> AsyncIterator[TensorSlot]:
        """A slot for `count` float32 values. After an abandoned inference it is not reused for `longest`
        seconds, the time that an inference may take."""
        shared = await self._pool.acquire(4 * count)
        if shared is None:
            yield TensorSlot(np.empty(count, dtype=np.float32), None)
            return
        try:
            yield TensorSlot(shared.array(count), shared)
        except (asyncio.CancelledError, RuntimeTimeout):
            self._pool.rest(shared, longest)
            raise
        except BaseException:
            self._pool.release(shared)
            raise
        self._pool.release(shared)

    async def run(self, request: pb.ModelInferRequest, slot: TensorSlot | None, time_limit: float) -> Answer:
        """Run `request`, whose large tensor is in `slot`, within `time_limit` seconds.

        Registers the slot again if Triton was restarted since, and reloads a model whose process died.
        """
        asked_at = asyncio.get_running_loop().time()
        try:
            try:
                response = await self._client.infer(request, time_limit)
            except SharedMemoryGone:
                if slot is None or slot.shared is None:
                    raise
                await self._pool.register(slot.shared)
                response = await self._client.infer(request, time_limit)
        except ModelDied:
            self._revival.died(request.model_name, asked_at)
            raise
        return Answer(response)


class Answer:
    """A response's outputs by name, each checked when it is read; every problem is a RuntimeFailed."""

    def __init__(self, response: pb.ModelInferResponse) -> None:
        self._model = response.model_name
        self._outputs = {
            output.name: (output, raw)
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)
        }

    def floats(self, name: str) -> NDArray[np.float32]:
        """Output `name` as float32, flat, every value finite."""
        values = np.frombuffer(self._bytes(name, "FP32"), dtype=np.float32)
        if not np.isfinite(values).all():
            raise RuntimeFailed(f"model {self._model}: output {name!r} has values that are not finite")
        return values

    def last_row(self, name: str) -> NDArray[np.float32]:
        """The last row of output `name`, which may hold infinities (the logit of a token never chosen)."""
        values = np.frombuffer(self._bytes(name, "FP32"), dtype=np.float32)
        shape = self._outputs[name][0].shape
        width = shape[-1] if shape else 1
        if not width or len(values) < width:
            raise RuntimeFailed(f"model {self._model}: output {name!r} is empty")
        return values[-width:]

    def number(self, name: str) -> float:
        """Output `name`, which holds one number."""
        values = self.floats(name)
        if len(values) != 1:
            raise RuntimeFailed(f"model {self._model}: output {name!r} has {len(values)} values, expected 1")
        return float(values[0])

    def probability(self, name: str) -> float:
        """Output `name`, which holds one number from 0 to 1."""
        value = self.number(name)
        # float32 rounding may put 0 or 1 slightly outside.
        if not -1e-6 <= value <= 1 + 1e-6:
            raise RuntimeFailed(
                f"model {self._model}: output {name!r} is {value}, expected a value from 0 to 1"
            )
        return min(max(value, 0.0), 1.0)

    def text(self, name: str) -> str:
        """Output `name`, which holds one string."""
        raw = self._bytes(name, "BYTES")
        length = int.from_bytes(raw[:4], "little")
        if len(raw) != 4 + length:
            raise RuntimeFailed(f"model {self._model}: output {name!r} is not one string")
        try:
            return raw[4:].decode()
        except UnicodeDecodeError as error:
            raise RuntimeFailed(f"model {self._model}: output {name!r} is not UTF-8: {error}") from error

    def has(self, name: str) -> bool:
        """Whether the response has this output."""
        return name in self._outputs

    def _bytes(self, name: str, datatype: str) -> bytes:
        if name not in self._outputs:
            there = ", ".join(self._outputs) or "none"
            raise RuntimeFailed(
                f"model {self._model}: output {name!r} is missing from its answer; it has {there}"
            )
        output, raw = self._outputs[name]
        if output.datatype != datatype:
            raise RuntimeFailed(
                f"model {self._model}: output {name!r} has datatype {output.datatype}, expected {datatype}"
            )
        return raw


def add_text(request: pb.ModelInferRequest, name: str, shape: tuple[int, ...], text: str) -> None:
    """Add an input of one string."""
    encoded = text.encode()
    request.inputs.add(name=name, datatype="BYTES", shape=shape)
    request.raw_input_contents.append(len(encoded).to_bytes(4, "little") + encoded)


def time_limit(model: ModelSettings, call: Call) -> float:
    """Seconds that an inference of `model` for `call` may take."""
    return model.timeout if call.timeout is None else min(model.timeout, call.timeout)


async def in_thread(work: Callable[[], _T]) -> _T:
    """Do `work` in a thread. Cancelled, wait for its end first: it may write into a slot."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
