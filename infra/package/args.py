"""What the components take, as a stack file has it (`infra.stack`), with Python's names for the keys.

Pulumi infers the package's schema from these classes, so their annotations are types and not strings.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi

from infra.package.build import Build as Build
from infra.package.gateway_settings import FleetGateway, GatewaySettings
from infra.package.monitoring_settings import Monitoring
from infra.package.rollout import Judge as Judge
from infra.package.rollout import Rollout


class Ports(TypedDict):
    """The ports that a node's host publishes; Triton's and the unit manager's only with `publish`."""

    http: NotRequired[int]
    """The inference service's HTTP port."""
    grpc: NotRequired[int]
    """The inference service's gRPC port."""
    triton_http: NotRequired[int]
    triton_grpc: NotRequired[int]
    triton_metrics: NotRequired[int]
    unit_manager: NotRequired[int]


class Remote(TypedDict):
    """The inference service that a `remote` node forwards to."""

    endpoint: NotRequired[str]
    """Its base address, e.g. https://ai.example.com."""
    token: NotRequired[str]
    """Its API key."""
    timeout_seconds: NotRequired[float]


class Triton(TypedDict):
    """The Triton runtime."""

    image: NotRequired[str]
    """The reference of an existing image."""
    build: NotRequired[Build]
    """true: built from this project; or the folder and Dockerfile to build from."""
    publish: NotRequired[bool]
    """Publish Triton's ports on the host. Without it only the service reaches them."""
    shm_size: NotRequired[str]
    """The size of /dev/shm, which Triton, its python backend and the service share."""
    memory: NotRequired[str]
    """The container's memory limit. Default: 32g."""
    pids_limit: NotRequired[int]
    """Processes and threads that the container may have. Default: 8192."""
    read_only: NotRequired[bool]
    """The container's root is read-only; models write to /tmp and /var/tmp. Default: true."""
    extra_args: NotRequired[Sequence[str]]
    """Additional arguments of tritonserver."""
    env: NotRequired[Mapping[str, str]]
    user: NotRequired[str]
    """The user that the container runs as. Default: 1000:1000."""


class EdgeLlmPart(TypedDict):
    """One of the Edge-LLM containers."""

    image: NotRequired[str]
    """The reference of an existing image."""
    build: NotRequired[Build]
    """true: built from this project; or the folder and Dockerfile to build from."""
    command: NotRequired[Sequence[str]]
    """Replaces the image's command."""
    env: NotRequired[Mapping[str, str]]
    memory: NotRequired[str]
    """The container's memory limit. Default: none."""
    pids_limit: NotRequired[int]
    """Processes and threads that the container may have. Default: 8192."""
    read_only: NotRequired[bool]
    """The container's root is read-only; /tmp, which both parts share, is not. Default: false."""
    user: NotRequired[str]
    """The user that the container runs as. Default: the image's own."""


class EdgeLlm(TypedDict):
    """The Edge-LLM runtime: a unit manager and an llm node on one host, with one /tmp between them."""

    unit_manager: NotRequired[EdgeLlmPart]
    llm_node: NotRequired[EdgeLlmPart]
    publish: NotRequired[bool]
    """Publish the unit manager's port (`ports.unitManager`) on the host."""
    model_path: NotRequired[str]
    """Where the llm node sees the models."""


class Service(TypedDict):
    """The inference service."""

    image: NotRequired[str]
    """The reference of an existing image."""
    build: NotRequired[Build]
    """true: built from this project; or the folder and Dockerfile to build from."""
    workers: NotRequired[int]
    """Processes."""
    max_concurrency: NotRequired[int]
    """Requests that the node runs at the same time."""
    shutdown_grace_seconds: NotRequired[int]
    """How long a stopping service may take to finish running requests."""
    memory: NotRequired[str]
    """The container's memory limit. Default: 16g."""
    pids_limit: NotRequired[int]
    """Processes and threads that the container may have. Default: 8192."""
    read_only: NotRequired[bool]
    """The container's root is read-only, and its settings are in an environment variable. Default: true for
    the image that is built from this project, else false."""
    config: NotRequired[Mapping[str, Any]]
    """The service's settings, as in ai-inference-service.yaml."""
    env: NotRequired[Mapping[str, str]]


class Models(TypedDict):
    """Where the models come from."""

    source: NotRequired[str]
    """host: already on each node; sync: copied from this computer; or an object store: s3://, gs://,
    as://."""
    path: NotRequired[str]
    """host: the folder on each node; sync: the folder on this computer, relative to the project."""
    credentials: NotRequired[Mapping[str, str]]
    """Object store: environment variables of Triton, e.g. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."""
    allow_rules: NotRequired[bool]
    """false: tasks whose model is a rule or a lexicon are not offered (501). true: they are offered, and the
    doctor does not warn. Default: they are offered, and the doctor warns."""


class Traces(TypedDict):
    """Traces of requests (OpenTelemetry), through the service and Triton of each node."""

    endpoint: NotRequired[str]
    """The collector to which nodes send them by OTLP over HTTP, such as http://192.0.2.30:4318. Default: no
    traces."""
    share: NotRequired[float]
    """The share of requests that are traced. A client that sends `traceparent` decides itself."""


class Cors(TypedDict):
    """Web pages that may call the API from a browser, beside those of its own origin."""

    origins: NotRequired[Sequence[str]]
    """Their origins, such as https://app.example.com, https://*.example.com or http://localhost:*; "*": every
    page."""


class Ssh(TypedDict):
    """Settings that differ from the user's SSH configuration and agent. Host keys are always checked."""

    known_hosts: NotRequired[str]
    """A known_hosts file."""
    private_key_file: NotRequired[str]
    proxy_jump: NotRequired[str]
    """Jump hosts, as `ssh -J` takes them."""
    config_file: NotRequired[str]
    """An SSH configuration file, as `ssh -F` takes it."""


class Login(TypedDict):
    """How hosts log in to a registry from which they pull."""

    registry: str
    """Its name and port, as references of images begin: nvcr.io, registry.example.com:5000."""
    username: str
    password: str


class Images(TypedDict):
    """Where built images go, and how hosts log in to registries."""

    registry: NotRequired[str]
    """Build once and push here, e.g. registry.example.com/gpu. Default: `build` decides."""
    build: NotRequired[str]
    """Without a registry, once: the first host builds each image, and the others get copies. everywhere: each
    host builds its own. Default: once."""
    username: NotRequired[str]
    password: NotRequired[str]
    platform: NotRequired[str]
    logins: NotRequired[Sequence[Login]]
    """Logins of further registries, for private images that the stack names, the gateway's too."""


class NodeSettings(TypedDict):
    """One GPU host: an inference runtime and the inference service."""

    host: str
    """ssh://user@host[:port], unix:///var/run/docker.sock, or embedded (processes on this computer)."""
    public_host: NotRequired[str]
    """The address that the gateway dials. Default: the host's address."""
    bind: NotRequired[str]
    """The IP address of the host on which the node's ports are open. Default: all addresses."""
    ports: NotRequired[Ports]
    """Ports of this node that differ from the stack's `ports`."""
    public_http_port: NotRequired[int]
    """The port that the gateway dials for HTTP. Behind NAT it differs from the node's own port."""
    public_grpc_port: NotRequired[int]
    """The port that the gateway dials for gRPC."""
    runtime: NotRequired[str]
    gpus: NotRequired[Any]
    """all, none, or GPU indices. Default: all; none for embedded and remote nodes."""
    remote: NotRequired[Remote]
    """Keys that differ from the stack's `remote` on this node."""
    tasks: NotRequired[Sequence[str]]
    """What the node serves: asr, emotion, synthesis. It loads only their models, and gets only their
    requests. Default: all of them."""
    weight: NotRequired[int]
    """The node's share of the requests, beside nodes of other weights: 3 for a GPU three times as fast."""
    drained: NotRequired[bool]
    """true: the node stays deployed and gets no traffic from the gateway."""


class FleetNode(NodeSettings):
    """One node of a fleet."""

    name: NotRequired[str]
    """The node's name, part of its containers' names. Default: made from the host."""


class NodeArgs(NodeSettings):
    """A node, its host, and what runs on it. The component's name is the node's."""

    triton: NotRequired[Triton]
    edge_llm: NotRequired[EdgeLlm]
    service: NotRequired[Service]
    models: NotRequired[Models]
    ssh: NotRequired[Ssh]
    images: NotRequired[Images]
    remote_dir: NotRequired[str]
    """The folder on each host for synced models and the gateway's configuration."""
    api_keys: NotRequired[pulumi.Input[Sequence[pulumi.Input[str]]]]
    """Keys, one of which each client must send; without keys every client is served. Kept as a secret."""
    cors: NotRequired[Cors]
    traces: NotRequired[Traces]
    ready_timeout_seconds: NotRequired[int]
    """How long a changed node may take until its health route answers 200."""


class GatewayArgs(GatewaySettings):
    """A gateway, its host, and the nodes that it sends traffic to."""

    host: str
    """Where the gateway runs: ssh://user@host[:port] or unix:///var/run/docker.sock."""
    nodes: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]
    """The nodes: the output `upstream` of each, or what one has: name, host, http, grpc,
    tasks, weight and drained."""
    ssh: NotRequired[Ssh]
    remote_dir: NotRequired[str]
    """The folder on each host for synced models and the gateway's configuration."""
    api_keys: NotRequired[pulumi.Input[Sequence[pulumi.Input[str]]]]
    """Keys, one of which each client must send; without keys every client is served. Kept as a secret."""
    cors: NotRequired[Cors]


class FleetArgs(TypedDict):
    """One fleet."""

    nodes: Sequence[FleetNode]
    ports: NotRequired[Ports]
    triton: NotRequired[Triton]
    edge_llm: NotRequired[EdgeLlm]
    remote: NotRequired[Remote]
    service: NotRequired[Service]
    models: NotRequired[Models]
    gateway: NotRequired[FleetGateway]
    rollout: NotRequired[Rollout]
    ssh: NotRequired[Ssh]
    images: NotRequired[Images]
    remote_dir: NotRequired[str]
    """The folder on each host for synced models and the gateway's configuration."""
    api_keys: NotRequired[Sequence[str]]
    """Keys, one of which each client must send; without keys every client is served. Kept as a secret."""
    cors: NotRequired[Cors]
    traces: NotRequired[Traces]
    monitoring: NotRequired[Monitoring]
