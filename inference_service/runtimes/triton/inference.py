"""One inference: a request of named tensors, the large one through shared memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from inference_service.errors import NotReady, RuntimeTimeout
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton.answers import Answer
from inference_service.runtimes.triton.client import ModelDied, SharedMemoryGone, TritonClient
from inference_service.runtimes.triton.revival import Revival
from inference_service.runtimes.triton.shared_memory import SharedMemoryPool, Slot
from inference_service.settings import ModelSettings

#: Values up to which a slot is filled in the event loop (a minute at 16 kHz in 0.15 ms), not in a thread.
_QUICK_VALUES = 1_000_000


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """A large float32 tensor: in shared memory, else in this process, to be sent over gRPC."""

    array: NDArray[np.float32]  # [count]
    shared: Slot | None

    def add_to(self, request: pb.ModelInferRequest, name: str, shape: tuple[int, ...]) -> None:
        """Make this the request's input `name`, with `shape`."""
        tensor = request.inputs.add(name=name, datatype="FP32", shape=shape)
        if self.shared is None:
            request.raw_input_contents.append(self.array.tobytes())
            return
        parameters = tensor.parameters
        parameters["shared_memory_region"].string_param = self.shared.name
        parameters["shared_memory_byte_size"].int64_param = self.array.nbytes


class Inference:
    """Runs requests on a client, with tensors in slots from a pool."""

    def __init__(self, client: TritonClient, pool: SharedMemoryPool, revival: Revival) -> None:
        self._client = client
        self._pool = pool
        self._revival = revival

    @asynccontextmanager
    async def slot(
        self, count: int, write: Callable[[NDArray[np.float32]], None], *, longest: float
    ) -> AsyncIterator[TensorSlot]:
        """A slot with the `count` float32 values that `write` writes into it. After an abandoned inference it
        is not reused for `longest` seconds, the time that an inference may take. Raises NotReady while Triton
        hangs."""
        self._client.check_live()
        shared = await self._pool.acquire(4 * count)
        array = np.empty(count, dtype=np.float32) if shared is None else shared.array(count)
        abandoned = False
        try:
            if count <= _QUICK_VALUES:
                write(array)
            else:
                await _in_thread(lambda: write(array))
            yield TensorSlot(array, shared)
        except (asyncio.CancelledError, RuntimeTimeout, NotReady):
            # NotReady: the connection is lost or the server hangs, and the model may run on.
            abandoned = True
            raise
        finally:
            if shared is not None and abandoned:
                self._pool.rest(shared, longest)
            elif shared is not None:
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


def add_text(request: pb.ModelInferRequest, name: str, shape: tuple[int, ...], text: str) -> None:
    """Add an input of one string."""
    encoded = text.encode()
    request.inputs.add(name=name, datatype="BYTES", shape=shape)
    request.raw_input_contents.append(len(encoded).to_bytes(4, "little") + encoded)


def time_limit(model: ModelSettings, call: Call) -> float:
    """Seconds that an inference of `model` for `call` may take."""
    return model.timeout if call.timeout is None else min(model.timeout, call.timeout)


async def _in_thread(work: Callable[[], None]) -> None:
    """Do `work` in a thread. If cancelled, wait for its end first, because it writes into a slot."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
