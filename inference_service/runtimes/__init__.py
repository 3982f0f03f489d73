"""The runtimes, behind the one interface of `runtimes.base`."""

from inference_service.runtimes.base import Runtime
from inference_service.settings import Settings


def build_runtime(settings: Settings) -> Runtime:
    """The runtime that `settings.backend` names, not yet started.

    It imports only that runtime: a node without Triton does not load Triton's client.
    """
    match settings.backend:
        case "triton":
            from inference_service.runtimes.triton import TritonRuntime

            return TritonRuntime(settings)
        case "edge-llm":
            from inference_service.runtimes.edge_llm import EdgeLlmRuntime

            return EdgeLlmRuntime(settings)
        case "remote":
            from inference_service.runtimes.remote import RemoteRuntime

            return RemoteRuntime(settings)
