"""The checks of a stack in a cluster: of the cluster, of each pool, and of the gateway."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from infra import names
from infra.doctor.cluster import (
    access,
    containers,
    entrance,
    machines,
    models,
    needs,
    objects,
    placement,
    scaling,
)
from infra.doctor.cluster.api import ClusterApi, Done, Refused
from infra.doctor.cluster.seen import Seen, look
from infra.doctor.findings import Failed, Outcome, ok, problem
from infra.doctor.host_access import NoAnswer, Unreachable
from infra.doctor.runner import SECONDS, Check
from infra.image_references import ContextError
from infra.kubernetes import labels
from infra.kubernetes.gateway import certificate_secret
from infra.kubernetes.kubectl import environment, kubectl, shown
from infra.kubernetes.objects import objects as declared
from infra.models.files import ModelsError
from infra.stack import Stack
from infra.stack.pools import Pool

#: The place of the findings that concern no pool and not the gateway alone.
CLUSTER = "cluster"
#: Beyond one answer of the API server: it lists large clusters in several seconds.
_LISTS_SECONDS = 20.0
#: For the first answer: a program that logs in may take its time.
_VERSION_SECONDS = 7.0
_LOG_LINES, _LOG_LETTERS = 4, 600
#: What a kubelet says in place of a log that is no longer there.
_NO_LOG = "unable to retrieve container logs"

Pure = Callable[[Seen], Outcome]


class ClusterPlan:
    """The checks of a whole stack, and the connection that they use."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        """`folder` is private, and its path is short: the connection's socket is in it."""
        self._stack = stack
        self._api = ClusterApi(kubectl(stack, namespaced=False), environment(stack, folder), folder)
        self._seen, self._version = Seen(), Done(1, "", "")
        self.checks: list[Check] = []
        self._add_cluster()
        for pool in stack.pools:
            self._add_pool(pool)
        self._add_gateway()

    async def close(self) -> None:
        """End the connection."""
        await self._api.close()

    def _check(
        self,
        where: str,
        name: str,
        checked: str,
        ask: Callable[[], Awaitable[Outcome]],
        needs: Sequence[Check] = (),
        seconds: float = SECONDS,
    ) -> Check:
        check = Check((where,), name, checked, ask, seconds, needs)
        self.checks.append(check)
        return check

    def _look(self, where: str, name: str, checked: str, pure: Pure, needed: Check | None = None) -> None:
        """A check of what the API server has listed; without `needed` only where the stack is deployed."""

        async def ask() -> Outcome:
            return pure(self._seen)

        self._check(where, name, checked, ask, [needed or self._there])

    def _add_cluster(self) -> None:
        stack = self._stack
        self._kubectl = self._check(CLUSTER, "kubectl", "kubectl version", self._ask_kubectl)
        checked = shown(stack, "version", namespaced=False)
        self._reached = self._check(CLUSTER, "api server", checked, self._ask_api_server, [self._kubectl])
        checked = shown(stack, "get", "namespace", stack.kubernetes.namespace, namespaced=False)
        self._namespace = self._check(CLUSTER, "namespace", checked, self._ask_namespace, [self._reached])
        self._listed = self._check(
            CLUSTER,
            "permissions",
            "lists of the stack's objects",
            self._ask_lists,
            [self._namespace],
            _LISTS_SECONDS,
        )
        self._look(CLUSTER, "machines", "kubectl get nodes", partial(machines.machines, stack), self._listed)
        if any(pool.gpus for pool in stack.pools):
            resource = stack.kubernetes.gpu_resource
            checked = f"what machines advertise as {resource}"
            self._look(CLUSTER, "gpu resource", checked, partial(machines.gpu_resource, stack), self._listed)
            checked = f"{resource} of machines and pods"
            self._look(CLUSTER, "gpus", checked, partial(machines.gpus, stack), self._listed)
        self._there = self._check(
            CLUSTER,
            "objects",
            "the stack's objects, against the stack file",
            self._ask_objects,
            [self._listed],
        )
        if stack.kubernetes.network_policies:
            checked = "the stack's NetworkPolicies"
            self._look(CLUSTER, "network policies", checked, partial(scaling.policies, stack))
        if stack.kubernetes.monitoring.by == "operator":
            self._look(CLUSTER, "monitors", "the stack's PodMonitors", partial(scaling.monitors, stack))

    def _add_part(self, part: str) -> None:
        """What pools and the gateway have in common."""
        stack = self._stack
        name = labels.of(stack, part)
        self._look(part, "deployment", f"Deployment {name}", partial(placement.deployment, stack, part))
        checked = "what admission, quotas and Pod Security refused"
        self._look(part, "refused pods", checked, partial(placement.refused, stack, part))
        checked = "what the scheduler says"
        self._look(part, "machine", checked, partial(placement.waiting, stack, part))
        checked = "Secrets, ConfigMaps, ServiceAccount and RuntimeClass that the pods name"
        self._look(part, "needed objects", checked, partial(needs.objects, stack, part))
        self._look(part, "images", "what the kubelets say", partial(containers.images, stack, part))
        self._check(
            part,
            "containers",
            "their states, and the last lines of those that ended",
            partial(self._ask_containers, part),
            [self._there],
        )
        self._look(part, "probes", "the kubelets' events", partial(containers.probes, stack, part))
        self._look(part, "endpoints", f"Service {name}", partial(entrance.endpoints, stack, part))
        checked = f"PodDisruptionBudget {name}"
        self._look(part, "disruption budget", checked, partial(scaling.disruptions, stack, part))

    def _add_pool(self, pool: Pool) -> None:
        stack, part = self._stack, pool.name
        self._add_part(part)
        if stack.models.claim is not None:
            checked = f"claim {stack.models.claim}"
            self._look(part, "claims", checked, partial(needs.claims, stack, part))
        checked = f"GET {models.ROUTE} of pods that run and are not ready"
        self._check(part, "models", checked, partial(self._ask_models, part), [self._there], SECONDS * 2)
        if pool.autoscale is not None:
            self._look(part, "autoscaler", "what it says", partial(scaling.autoscaler, stack, pool))

    def _add_gateway(self) -> None:
        stack, part = self._stack, names.GATEWAY
        self._add_part(part)

        def address(seen: Seen) -> Outcome:
            return entrance.address(stack, seen, datetime.now(UTC))

        self._look(part, "address", "the Service, Ingress or Routes", address)
        if stack.kubernetes.tls is not None:
            self._check(
                part,
                "certificate",
                f"Secret {certificate_secret(stack)}",
                self._ask_certificate,
                [self._there],
            )

    async def _ask_kubectl(self) -> Outcome:
        # One command for both checks: kubectl tells its own version first.
        arguments = ("version", "--output=json", f"--request-timeout={_VERSION_SECONDS - 2:g}s")
        try:
            self._version = await self._api.run(*arguments, seconds=_VERSION_SECONDS)
        except Unreachable as error:
            return problem(str(error), access.NO_KUBECTL)
        except NoAnswer as error:
            self._version = Done(1, "", str(error))
        return access.kubectl_version(self._version)

    async def _ask_api_server(self) -> Outcome:
        outcome = access.api_server(self._stack, self._version)
        if not self._version.status:
            try:
                await self._api.open()
            except Unreachable as error:
                return problem(str(error), f"try it: {shown(self._stack, 'proxy', namespaced=False)}")
        return outcome

    async def _ask_namespace(self) -> Outcome:
        path = f"/api/v1/namespaces/{self._stack.kubernetes.namespace}"
        try:
            return access.namespace(self._stack, await self._api.json(path), 200, "")
        except Refused as error:
            return access.namespace(self._stack, None, error.status, str(error))
        except (Unreachable, NoAnswer) as error:
            raise Failed(problem(str(error), access.remedy_for(self._stack, str(error)))) from None

    async def _ask_lists(self) -> Outcome:
        self._seen = await look(self._api, self._stack)
        return access.permissions(self._stack, self._seen)

    async def _ask_objects(self) -> Outcome:
        try:
            # It reads the build contexts and the models on this computer.
            made = await asyncio.to_thread(declared, self._stack)
            return objects.objects(self._stack, made, self._seen)
        except (ContextError, ModelsError) as error:
            return ok(f"not compared: {error}")

    async def _ask_containers(self, part: str) -> Outcome:
        logs = {}
        for each in containers.to_read(self._stack, part, self._seen):
            logs[each.pod, each.name] = await self._log_of(each.pod, each.name)
        return containers.ends(self._stack, part, self._seen, logs, datetime.now(UTC))

    async def _log_of(self, pod: str, container: str) -> str:
        """The last lines of a container that ended; empty where the API server does not tell them."""
        base = f"/api/v1/namespaces/{self._stack.kubernetes.namespace}/pods/{pod}/log"
        query = f"container={container}&tailLines={_LOG_LINES}"
        # Between two runs the present log is that of the run that ended.
        for further in ("", "&previous=true"):
            try:
                answer = await self._api.get(f"{base}?{query}{further}")
            except (Unreachable, NoAnswer):
                return ""
            if answer.status == 200 and answer.text and not answer.text.startswith(_NO_LOG):
                return answer.text[-_LOG_LETTERS:]
        return ""

    async def _ask_models(self, part: str) -> Outcome:
        told = await models.ask(self._api, self._stack, models.to_ask(self._stack, part, self._seen))
        return models.models(self._stack, part, self._seen, told)

    async def _ask_certificate(self) -> Outcome:
        stack, now = self._stack, datetime.now(UTC)
        issued = needs.issued(stack, self._seen)
        if issued is not None and issued.remedy:
            return issued
        path = f"/api/v1/namespaces/{stack.kubernetes.namespace}/secrets/{certificate_secret(stack)}"
        try:
            return entrance.certificate(stack, await self._api.json(path), now)
        except Refused as error:
            if error.status == 404:
                return entrance.certificate(stack, None, now)
            return ok(f"not known: {error}")
