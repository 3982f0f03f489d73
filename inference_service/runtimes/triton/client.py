"""Calls to one Triton server over one kept gRPC connection, with its errors as the service's.

tritonclient's generated stubs on a `grpc.aio` channel: its `InferInput` would copy every waveform twice more.
One channel carries all calls of a worker at once: waveforms lie in shared memory, so its messages are small.
"""

import re
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from inference_service import tracing
from inference_service.errors import (
    BadRequest,
    NotReady,
    RuntimeFailed,
    RuntimeLost,
    RuntimeTimeout,
    ServiceError,
)
from inference_service.runtimes.triton.hang import HangDetector

#: Seconds for calls about the server itself; `Runtime.readiness` has one second.
CONTROL_TIMEOUT = 0.9

#: What gRPC says of a connection, up to the reason: it names internal addresses.
_PEER = re.compile(r".*\b(?:ipv4|ipv6|unix|dns):\S+: ")
# What gRPC says of a connection that ended during a call. Triton says none of it.
_ENDED = re.compile(r"(?i)socket closed|recvmsg|reset by peer|broken pipe|goaway|rst_stream")
_NEVER_MADE = "failed to connect"

_CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # Reconnects to a restarted Triton within a second; gRPC's own backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Tensors are as long as the audio; Triton has its own limit.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Finds a connection that is lost without being closed. Servers disconnect clients that ping more often.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A channel of its own for every client in the process.
    ("grpc.use_local_subchannel_pool", 1),
    # Triton is on the node's own network, which no HTTP proxy reaches.
    ("grpc.enable_http_proxy", 0),
]


class SharedMemoryGone(RuntimeFailed):
    """Triton does not know the shared memory region: it was restarted after the registration."""


class ModelDied(RuntimeLost):
    """The model's process has ended; Triton does not restart it."""


class TritonClient:
    """One connection to the Triton server at `address` (host:port of its gRPC service).

    Every method raises NotReady if the server or the model is not available, and RuntimeFailed for all other
    failures. After its deadline (`time_limit`, seconds) `infer` raises RuntimeTimeout. Every other method
    raises NotReady then: the inference has not begun, and another node may do it. Cancelling cancels the call
    in Triton too.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._hang = HangDetector(self._live)

    def start(self) -> None:
        """Begin to watch for a server that hangs, in the running event loop."""
        self._hang.start()

    def check_live(self) -> None:
        """Raise NotReady while the server hangs."""
        self._hang.check()

    async def close(self) -> None:
        """Close the connection; calls still running are cancelled."""
        await self._hang.close()
        await self._channel.close()

    async def connected(self) -> None:
        """Wait for a connection."""
        while (state := self._channel.get_state(try_to_connect=True)) != grpc.ChannelConnectivity.READY:
            await self._channel.wait_for_state_change(state)

    async def disconnected(self) -> None:
        """Wait until the connection is lost."""
        await self._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

    async def infer(self, request: pb.ModelInferRequest, time_limit: float) -> pb.ModelInferResponse:
        """Run a model.

        Raises BadRequest for what the model itself refuses, SharedMemoryGone, and RuntimeLost when the server
        or the model's process (ModelDied) ends meanwhile.
        """
        self._hang.check()
        # Triton traces every call that brings a trace, whether or not somebody keeps that.
        trace = tuple(tracing.headers(sampled_only=True).items())
        try:
            running = self._stub.ModelInfer(request, timeout=time_limit, metadata=trace)
            return await self._hang.wait_for(running)
        except grpc.aio.AioRpcError as error:
            reason = error.details() or ""
            if "find shared memory region" in reason:
                raise SharedMemoryGone(reason) from error
            if reason.startswith("Stub process") and "is not healthy" in reason:
                raise ModelDied(f"model {request.model_name} is not ready: its process died") from error
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise BadRequest(f"{request.model_name}: {without_traceback(reason)}") from error
            if (
                error.code() is grpc.StatusCode.UNAVAILABLE
                and not reason.startswith(_NEVER_MADE)
                and _ENDED.search(reason)
            ):
                raise RuntimeLost(f"Triton ended while it ran model {request.model_name}") from error
            raise self._translated(error, f"model {request.model_name}") from error

    async def _live(self, time_limit: float) -> bool:
        """Whether Triton answers within `time_limit` seconds. A lost connection is not a hang."""
        try:
            await self._stub.ServerLive(pb.ServerLiveRequest(), timeout=time_limit)
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        return True

    async def repository_index(self) -> dict[str, tuple[str, str]]:
        """Every model in the repository: name -> (state, reason). The state READY of any version counts."""
        answer = await self._control(self._stub.RepositoryIndex, pb.RepositoryIndexRequest())
        index: dict[str, tuple[str, str]] = {}
        for model in answer.models:
            if index.get(model.name, ("", ""))[0] != "READY":
                index[model.name] = (model.state, model.reason)
        return index

    async def metadata(self, model: str) -> pb.ModelMetadataResponse:
        """The model's tensors in Triton, the batch dimension included."""
        return await self._control(self._stub.ModelMetadata, pb.ModelMetadataRequest(name=model), model)

    async def config(self, model: str) -> Any:
        """The model's configuration (`inference.ModelConfig`): which inputs are optional, its parameters."""
        return (await self._control(self._stub.ModelConfig, pb.ModelConfigRequest(name=model), model)).config

    async def load(self, model: str, time_limit: float) -> None:
        """Load a model; Triton refuses that unless it runs with explicit model control."""
        request = pb.RepositoryModelLoadRequest(model_name=model)
        await self._control(self._stub.RepositoryModelLoad, request, model, time_limit)

    async def unload(self, model: str, time_limit: float) -> None:
        """Unload a model; Triton refuses that unless it runs with explicit model control."""
        request = pb.RepositoryModelUnloadRequest(model_name=model)
        await self._control(self._stub.RepositoryModelUnload, request, model, time_limit)

    async def register(self, name: str, key: str, size: int) -> None:
        """Register the system shared memory object `key` of `size` bytes in Triton as `name`."""
        self._hang.check()
        request = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=0, byte_size=size)
        await self._control(self._stub.SystemSharedMemoryRegister, request)

    async def unregister(self, name: str) -> None:
        """Remove a region from Triton. An unknown one is no error."""
        request = pb.SystemSharedMemoryUnregisterRequest(name=name)
        await self._control(self._stub.SystemSharedMemoryUnregister, request)

    async def registered(self) -> dict[str, str]:
        """Every system shared memory region that is registered in Triton: name -> key."""
        request = pb.SystemSharedMemoryStatusRequest()
        answer = await self._control(self._stub.SystemSharedMemoryStatus, request)
        return {name: region.key for name, region in answer.regions.items()}

    async def _control(
        self, method: Any, request: Any, model: str | None = None, time_limit: float = CONTROL_TIMEOUT
    ) -> Any:
        try:
            return await method(request, timeout=time_limit)
        except grpc.aio.AioRpcError as error:
            what = f"model {model}" if model else "Triton"
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise NotReady(f"{what}: Triton did not answer within {time_limit:g} s") from error
            raise self._translated(error, what) from error

    def _translated(self, error: grpc.aio.AioRpcError, what: str) -> ServiceError:
        reason = without_traceback(error.details() or "")
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return RuntimeTimeout(f"{what} did not answer in time")
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.NOT_FOUND:
                return NotReady(f"{what} is not ready: {_PEER.sub('', reason)}")
            case code:
                return RuntimeFailed(f"{what} failed ({code.name}): {reason}")


def without_traceback(reason: str) -> str:
    """Triton's reason without the python backend's traceback."""
    return reason.split("\n\nAt:", 1)[0].strip().replace("\n", " ")
