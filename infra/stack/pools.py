"""A pool of nodes in a Kubernetes cluster: pods that are all alike."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from infra.stack.hosts import ClusterHost
from infra.stack.kubernetes import LabelKey, LabelValue
from infra.stack.node import Node, Remote
from infra.stack.section import Section
from infra.stack.shown import shown
from infra.stack.values import Memory, Name, NonEmpty, Positive, RuntimeName, Tasks

Cpu = Annotated[str, StringConstraints(pattern=r"^([0-9]+(\.[0-9]+)?|[1-9][0-9]*m)$")]


def _cpu(value: object) -> object:
    """CPUs as text; a number is one, too."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    return value


class Requests(Section):
    """What a container asks of the scheduler. Its limit of memory is in `triton`, `edgeLlm` or `service`."""

    cpu: Annotated[Cpu | None, BeforeValidator(_cpu)] = None
    """CPUs: 2, 0.5 or 500m. Default: 2 for the runtime, 1 for the service."""
    memory: Memory | None = None
    """Memory. Default: a quarter of the limit, without one 4g for the runtime and 1g for the service."""


class Resources(Section):
    """What a pod's containers ask of the scheduler."""

    runtime: Requests = Field(default_factory=Requests)
    """Triton, or each of the Edge-LLM containers."""
    service: Requests = Field(default_factory=Requests)


class Toleration(Section):
    """A taint of machines that the pods tolerate."""

    key: LabelKey | None = None
    """Its key. Without one, every taint."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Default: Equal with a value, else Exists."""
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Its effect. Without one, every effect."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """NoExecute: how long a pod stays. Default: for ever."""

    @model_validator(mode="before")
    @classmethod
    def _operator(cls, data: Any) -> Any:
        # `value` comes after `operator`, as in Kubernetes' own documents.
        if isinstance(data, dict) and "operator" not in data and data.get("value") is not None:
            return {**data, "operator": "Equal"}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.key is None and self.operator == "Equal":
            raise ValueError("expected a key with operator Equal")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("expected no value with operator Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect: NoExecute")
        return self


class Autoscale(Section):
    """How many pods a pool has, by what they do."""

    min: Annotated[int, Field(ge=0, le=1000)] = 1
    """The least; 0, which needs `by: keda`, lets the pool sleep."""
    max: Annotated[int, Field(ge=1, le=1000)]
    """The most."""
    running: Positive | None = None
    """Inferences that run in a pod, on average, above which pods are added. Default: 70 % of
    `service.maxConcurrency`."""
    queued: Positive = 1
    """Inferences that wait in a pod, on average, above which pods are added."""
    by: Literal["hpa", "keda"] = "hpa"
    """hpa: a HorizontalPodAutoscaler, which needs the custom metrics API (an adapter for Prometheus). keda: a
    ScaledObject of KEDA, which asks Prometheus itself."""
    prometheus: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")] | None = None
    """keda: the address of Prometheus, e.g. http://prometheus-operated.monitoring.svc:9090."""
    down_after_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """How long the load must be low before a pod is taken away."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"expected max of at least min ({self.min}), got {self.max}")
        if self.min == 0 and self.by == "hpa":
            raise ValueError("min 0 needs by: keda; a HorizontalPodAutoscaler keeps at least one pod")
        if self.by == "keda" and self.prometheus is None:
            raise ValueError("by: keda needs prometheus, the address of the Prometheus that KEDA asks")
        return self


def _selector(value: object) -> object:
    if isinstance(value, dict):
        wrong = [key for key, each in value.items() if not isinstance(each, str)]
        if wrong:
            raise ValueError(
                f'expected text for the label {wrong[0]}, such as "true", got {shown(value[wrong[0]])}'
            )
    return value


class Pool(Section):
    """`target: kubernetes`: nodes that are all alike, each a pod with a runtime and the inference service."""

    name: Name
    """The pool's name, part of the names of its objects."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """How many pods it has; not with `autoscale`."""
    autoscale: Autoscale | None = None
    """Between how many pods, by what load. Default: always `replicas`."""
    runtime: RuntimeName = "triton"
    gpus: Annotated[int, Field(ge=0, le=64)] = Field(
        default_factory=lambda data: 0 if data.get("runtime") == "remote" else 1
    )
    """GPUs of each pod (`kubernetes.gpuResource`). Default: 1; none for a remote node."""
    remote: Remote = Field(default_factory=Remote)
    """Keys that differ from the stack's `remote` in this pool."""
    tasks: Tasks = Field(default=["asr", "emotion", "synthesis"])
    """What the pods serve: asr, emotion, synthesis. They load only their models, and get only their requests.
    Default: all of them."""
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    """Each pod's share of the requests, beside pods of other weights."""
    drained: bool = False
    """true: the pool stays deployed and gets no traffic from the gateway."""
    selector: Annotated[dict[LabelKey, LabelValue], BeforeValidator(_selector)] = Field(default_factory=dict)
    """Labels of the machines that the pods run on, e.g. {nvidia.com/gpu.product: NVIDIA-L4}."""
    tolerations: list[Toleration] = Field(default_factory=list)
    """Taints of machines that the pods tolerate."""
    resources: Resources = Field(default_factory=Resources)
    update: Literal["surge", "replace"] = "surge"
    """surge: a new pod is ready before an old one ends, which needs a free GPU. replace: an old pod ends
    first, for clusters whose GPUs are all in use."""
    service_account: NonEmpty | None = None
    """A ServiceAccount that exists, e.g. one that may read the object store. Default: the namespace's; its
    token is not in the pods."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.autoscale is not None and "replicas" in self.model_fields_set:
            raise ValueError("expected replicas or autoscale, got both")
        return self

    @property
    def least(self) -> int:
        """The pods that it has without load."""
        return self.replicas if self.autoscale is None else self.autoscale.min

    @property
    def most(self) -> int:
        """The most pods that it has."""
        return self.replicas if self.autoscale is None else self.autoscale.max

    def node(self, host: ClusterHost) -> Node:
        """The pool as the gateway, the service's settings and Triton's arguments know nodes: one node, whose
        host is the Service with the addresses of all ready pods."""
        return Node(
            host=host,
            name=self.name,
            runtime=self.runtime,
            gpus="all" if self.gpus else "none",
            remote=self.remote,
            tasks=self.tasks,
            weight=self.weight,
            drained=self.drained,
        )
