"""What runs a node's models: Triton, Edge-LLM, or nothing where the service forwards to another one."""

import pulumi_docker as docker

from infra.program.runtimes import edge_llm, triton
from infra.program.runtimes.base import Place


def declare(place: Place) -> list[docker.Container]:
    """The containers of the node's runtime, in the order in which they start; none for `remote`."""
    match place.node.runtime:
        case "triton":
            return [triton.declare(place)]
        case "edge-llm":
            return edge_llm.declare(place)
        case _:
            return []
