"""Whether the models of pods answer: what the health route of each pod that runs and is not ready says.

A pod that is ready has answered there: the kubelet asks the same route.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from typing import Final

from inference_service import addresses
from infra import names
from infra.doctor.advice import advice
from infra.doctor.cluster.api import ClusterApi, message
from infra.doctor.cluster.seen import Object, Seen, pods_of
from infra.doctor.findings import Outcome, ok, problem, warning
from infra.doctor.host_access import NoAnswer, Unreachable
from infra.doctor.web import Answer, HttpServer
from infra.kubernetes import labels
from infra.kubernetes.kubectl import shown
from infra.kubernetes.state import is_ready
from infra.stack import Stack

ROUTE = "/api/v1/ai/health"
#: Pods of one pool that are asked; more would say the same.
_MOST_ASKED = 4
_FORWARD_SECONDS = 3.0
#: The containers that run the models.
_RUNTIMES: Final = {"triton": names.TRITON, "edge-llm": names.LLM_NODE}
#: What the API server says where its own network does not reach the pod.
_CUT_OFF: Final = "error trying to reach service"
_CLOSED: Final = "refused"


def to_ask(stack: Stack, part: str, seen: Seen) -> list[str]:
    """The pods whose service runs and that are not ready."""
    return [
        pod["metadata"]["name"] for pod in pods_of(stack, seen, part) if not is_ready(pod) and _serves(pod)
    ][:_MOST_ASKED]


def _serves(pod: Object) -> bool:
    return any(
        each["name"] == names.SERVICE and "running" in each.get("state", {})
        for each in pod.get("status", {}).get("containerStatuses", [])
    )


async def ask(api: ClusterApi, stack: Stack, pods: Sequence[str]) -> dict[str, Answer | str]:
    """Each pod's answer, or the reason why there is none."""
    told = await asyncio.gather(*(_asked(api, stack, pod) for pod in pods))
    return dict(zip(pods, told, strict=True))


async def _asked(api: ClusterApi, stack: Stack, pod: str) -> Answer | str:
    """Through the API server; where a NetworkPolicy keeps that out, through the kubelet (port-forward)."""
    namespace = stack.kubernetes.namespace
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:{addresses.HTTP_PORT}/proxy{ROUTE}"
    try:
        answer = await api.get(path)
        reason = message(answer)
        if answer.status == 200 or _CUT_OFF not in reason:
            return answer
    except NoAnswer as error:
        reason = str(error)
    except Unreachable as error:
        return str(error)
    try:
        return await _forwarded(api, namespace, pod)
    except (NoAnswer, Unreachable) as error:
        return f"{reason}; by port-forward: {error}"


async def _forwarded(api: ClusterApi, namespace: str, pod: str) -> Answer:
    """The answer through `kubectl port-forward`. Raises Unreachable, NoAnswer."""
    command = ("port-forward", f"--namespace={namespace}", f"pod/{pod}", f":{addresses.HTTP_PORT}")
    async with api.kept(*command) as lines:
        try:
            async with asyncio.timeout(_FORWARD_SECONDS):
                told = await lines()
        except TimeoutError:
            raise Unreachable(f"no connection within {_FORWARD_SECONDS:g} s") from None
        match = re.search(r"127\.0\.0\.1:(\d+)", told)
        if match is None:
            raise Unreachable(told.strip() or "kubectl says nothing")
        return await HttpServer(names.LOOPBACK, int(match[1])).get(ROUTE)


def models(stack: Stack, part: str, seen: Seen, told: dict[str, Answer | str]) -> Outcome:
    """What the pods said of their models."""
    ready = [pod for pod in pods_of(stack, seen, part) if is_ready(pod)]
    lines: dict[str, list[str]] = {}
    refused = False
    for pod, answer in told.items():
        if isinstance(answer, str):
            lines.setdefault(f"it cannot be asked: {answer}", []).append(pod)
        elif answer.status == 403:
            refused = True
            lines.setdefault(f"not allowed: {message(answer)}", []).append(pod)
        elif answer.status != 200:
            lines.setdefault(_reason(answer), []).append(pod)
    if not lines:
        return ok(f"those of {len(ready)} pods answer" if ready else "no pod runs that could be asked")
    words = "\n".join(f"{', '.join(pods)}: {reason}" for reason, pods in lines.items())
    if refused:
        return warning(words, _grant(stack))
    return problem(words, "\n".join(dict.fromkeys(_remedy(stack, part, reason) for reason in lines)))


def _reason(answer: Answer) -> str:
    """The service's own message; else the API server's or the text."""
    with contextlib.suppress(ValueError):
        told = json.loads(answer.body)
        if isinstance(told, dict) and told.get("message"):
            return str(told["message"])
    return answer.reason


def _remedy(stack: Stack, part: str, reason: str) -> str:
    runtime = next(each.runtime for each in stack.pools if each.name == part)
    log = f"fleet logs {part} -s {stack.name} --part {_RUNTIMES.get(runtime, names.SERVICE)}"
    if reason.startswith("it cannot be asked"):
        return (
            f"its network keeps the API server out, or the service hangs: {shown(stack)} exec POD "
            f"--container={names.SERVICE} -- python3 -m inference_service.healthcheck"
        )
    if _CUT_OFF in reason and _CLOSED in reason:
        return f"its service has not opened its port yet: fleet logs {part} -s {stack.name}"
    return advice(reason, log)


def _grant(stack: Stack) -> str:
    name, start = labels.of(stack, "doctor-pods"), shown(stack)
    return (
        f"{start} create role {name} --verb=get --resource=pods/proxy; "
        f"{start} create rolebinding {name} --role={name} --user=USER; USER is the one in the message"
    )
