"""Triton on a node: its model folder, its address, its models and their tensors."""

import asyncio
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from inference_service import diagnosis
from infra import names
from infra.doctor.advice import advice
from infra.doctor.answers import expected, failing
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.host_access import NoAnswer
from infra.doctor.linter import lint
from infra.doctor.sites.node import NodeSite
from infra.embedded.triton import backend_names

_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_NO_ANSWER = "Triton does not answer: {error}"


async def model_folder(node: NodeSite) -> Outcome:
    """The linter's faults of the folder that Triton reads."""
    with failing("check models.path, and that it is mounted into Triton's container"):
        folder, listing = await node.repository()
    faults = lint(
        listing,
        node.settings.ai.models if node.settings is not None else None,
        backend_names() if node.node.embedded else None,
    )
    return worst(
        [problem(f"{folder}/{fault}", fault.remedy) for fault in faults],
        f"{folder}: {', '.join(listing.models)}",
    )


async def endpoint(node: NodeSite) -> Outcome:
    """Whether the service calls Triton at the address where Triton listens."""
    triton = node.known_settings.ai.runtime.triton
    address = node.triton_address
    if _same_address(triton.grpc_address, address):
        return ok(f"the service calls Triton at {triton.grpc_address}")
    key = "ai.runtime.triton.grpc_endpoint" if triton.grpc_endpoint else "ai.runtime.triton.endpoint"
    value = triton.grpc_endpoint or triton.endpoint
    return problem(
        f"{key} is {value}: the service calls Triton at {triton.grpc_address}, and Triton is at {address}",
        f"remove {key} (AI__RUNTIME__TRITON__…) from service.config and service.env, or set it to "
        f"{address}; then `pulumi up`",
    )


async def live(node: NodeSite) -> Outcome:
    """Whether Triton answers at all."""
    server = node.server(names.TRITON)
    seen = f"Triton is not ready: {{error}} (Triton at {server.url})"
    remedy = f"{node.start(names.TRITON)}; its log: {node.log(names.TRITON)}"
    if node.node.wants_gpus:
        remedy += "; if it runs, wait: a model's first load on a GPU may build TensorRT engines for minutes"
    await expected(
        server.get("/v2/health/live"),
        remedy,
        unreachable=seen,
        refused=seen,
    )
    return ok(f"{server.url} is live")


async def models(node: NodeSite) -> Outcome:
    """Whether Triton has loaded every model that the service uses, and reports itself ready."""
    used = list(diagnosis.contracts(node.known_settings.ai.models))
    server = node.server(names.TRITON)
    with failing(node.start(names.TRITON), _NO_ANSWER):
        ready, index = await asyncio.gather(
            server.get("/v2/health/ready"), server.request("POST", "/v2/repository/index", b"{}")
        )
        states = _states(index.json())
    outcomes = []
    for model in used:
        state, reason = states.get(model, ("", "it is not in the model repository"))
        if state != "READY":
            seen = f"model {model} is not ready: {reason or state.lower() or 'it is not loaded'}"
            outcomes.append(problem(seen, advice(seen, node.start(names.TRITON))))
    if not outcomes and ready.status != 200:
        others = [
            f"{name} ({reason or state})" for name, (state, reason) in states.items() if state != "READY"
        ]
        outcomes.append(
            warning(
                f"Triton at {server.url} says that it is not ready"
                + (f": {'; '.join(others)}" if others else ""),
                "repair or remove the models that the service does not use and that do not load",
            )
        )
    return worst(outcomes, f"READY: {', '.join(used)}")


async def tensors(node: NodeSite) -> Outcome:
    """Whether each model's tensors in Triton are those that the service sends and reads."""
    server = node.server(names.TRITON)
    contracts = diagnosis.contracts(node.known_settings.ai.models)

    async def mismatches(model: str) -> list[str]:
        metadata, config = await asyncio.gather(
            server.get(f"/v2/models/{model}"), server.get(f"/v2/models/{model}/config")
        )
        if metadata.status != 200 or config.status != 200:
            return []  # the model is not ready, which `models` reports
        interface = diagnosis.Interface.of(
            _message(metadata.json(), pb.ModelMetadataResponse()),
            _message(config.json(), model_config_pb2.ModelConfig()),
        )
        return diagnosis.mismatches(contracts[model], interface)

    with failing(node.start(names.TRITON), _NO_ANSWER):
        lines = [line for each in await asyncio.gather(*map(mismatches, contracts)) for line in each]
    return worst(
        [problem(line, advice(line, node.start(names.TRITON))) for line in lines],
        "names, datatypes and shapes match",
    )


def _states(index: Any) -> dict[str, tuple[str, str]]:
    """Model -> (state, reason), as the service reads the index: one READY version is enough."""
    if not isinstance(index, list):
        raise NoAnswer(f"not a model index: {str(index)[:200]}")
    states: dict[str, tuple[str, str]] = {}
    for model in index:
        if states.get(model["name"], ("", ""))[0] != "READY":
            reason = diagnosis.without_traceback(model.get("reason", ""))
            states[model["name"]] = (model.get("state", ""), reason)
    return states


def _message(content: Any, message: Any) -> Any:
    try:
        return json_format.ParseDict(content, message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise NoAnswer(f"not Triton's description of a model: {error}") from None


def _same_address(one: str, other: str) -> bool:
    def normal(address: str) -> str:
        host, _, port = address.rpartition(":")
        return f"{'127.0.0.1' if host in _LOOPBACK else host}:{port}"

    return normal(one) == normal(other)
