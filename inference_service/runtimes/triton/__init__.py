"""The Triton runtime: gRPC to a Triton server, waveforms through system shared memory."""

from inference_service.runtimes.triton.runtime import TritonRuntime
