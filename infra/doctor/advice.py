"""The remedies for known messages of the service, Triton and nginx; docs/doctor.md explains each."""

import re
from typing import Final

from inference_service.diagnosis import LOST_FRAMES_ADVICE

#: A pattern in a message, and the remedy. The first that matches counts.
_ADVICE: Final = (
    (r"json format error", LOST_FRAMES_ADVICE),
    (
        r"has no llm node|unit call false",
        "start the llm node: docker start its container and read its log; the two share one /tmp volume, "
        "which `pulumi up` creates",
    ),
    (
        r"the unit manager (at .* )?(cannot be reached|did not answer|closes its connections)",
        "start the unit manager: docker start its container, or `pulumi up`; look at both containers' logs",
    ),
    (
        r"task full",
        "lower ai.runtime.edge_llm.max_sessions, or restart the llm node, which frees its sessions",
    ),
    (
        r"it is not in the model repository",
        "put the model's folder into models.path (source: host) or run `pulumi up` (source: sync); "
        "`python -m infra.doctor models PATH` checks a folder",
    ),
    (
        r"is not there; Triton has|has datatype|has shape|which the service does not send",
        "correct the model's config.pbtxt, or set ai.models.*.input_name, output_names and input_type "
        "to what the model has",
    ),
    (
        r"labels",
        "set ai.models.emotion.labels_path, or the parameter labels in config.pbtxt, to one label a logit",
    ),
    (
        r"is not ready: loading",
        "wait: Triton loads the model; with the TensorRT accelerator its first load on a GPU builds engines, "
        "which takes minutes",
    ),
    (
        r"[Uu]nable to find backend library|backend library .* not found",
        "choose an image of Triton that has this backend (triton.image), or export the model to ONNX",
    ),
    (
        r"kind KIND_GPU but no GPUs are available",
        "give the node GPUs (nodes[].gpus), or set kind: KIND_AUTO in the model's config.pbtxt",
    ),
    (
        r"engine plan file|deserializeCudaEngine|incompatible device",
        "build model.plan on this GPU with the TensorRT of Triton's image; or serve the ONNX file with the "
        "TensorRT accelerator, for which each node builds its own engines",
    ),
    (
        r"model \S+ is not ready",
        "correct what Triton reports of the model (its log has more), then restart Triton",
    ),
    (
        r"Triton (at \S+ )?says that it is not ready",
        "a model that the service does not use does not load, or Triton still loads; see Triton's log",
    ),
    (
        r"Triton (is not ready|did not answer)",
        "check that Triton runs, and that ai.runtime.triton.endpoint (and grpc_endpoint) is its address",
    ),
    (
        r"API key is (needed|not one)|wrong API key",
        "give the doctor a key of this stack: GPU_INFERENCE_API_KEY=…; "
        "`pulumi config get gpu-inference:apiKeys --stack STACK` has them",
    ),
    (r"draining", "the node is stopping; wait for the update that stops it, or start its service again"),
    (
        r"not a writable|shared memory",
        "give Triton and the service one /dev/shm, as `pulumi up` does, or set "
        "ai.runtime.triton.shared_memory: off",
    ),
    (r"no live upstreams|no node can take the request", "restore a node: see the nodes' findings above"),
)


def advice(message: str, otherwise: str) -> str:
    """The remedy for a message; `otherwise` for an unknown one."""
    return next((remedy for pattern, remedy in _ADVICE if re.search(pattern, message)), otherwise)
