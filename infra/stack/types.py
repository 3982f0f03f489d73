"""A stack's configuration, as typed data.

Keys are camelCase in the file and snake_case here. Everything has a default except the nodes' hosts; what a
node leaves out (its name, public address, ports, GPUs) is filled in when the stack is loaded, so readers of a
`Stack` never repeat a default. Rules that span several keys are in `rules`.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from infra.stack.hosts import PATTERN, EmbeddedHost, Host, SshHost, UnixHost, parse_host
from infra.stack.shown import shown

TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
NGINX_IMAGE = "nginx:1.28"

NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_MEMORY = re.compile(r"([1-9][0-9]*)([kmg]?)b?", re.IGNORECASE)
API_KEY = r"[A-Za-z0-9._~+/=-]{8,256}"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Section(BaseModel):
    """What every section of the configuration has in common: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
        # A bad value is shown by our own messages, and never when it is a secret.
        hide_input_in_errors=True,
    )


def _port(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {shown(value)}")
    return value


def parse_gpus(value: object) -> object:
    """`all`, `none`, or a list of GPU indices, each once."""
    if value in ("all", "none") and isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"expected all, none or a list of GPU indices such as [0, 1], got {shown(value)}")
    problems = []
    for position, index in enumerate(value):
        if isinstance(index, bool) or not isinstance(index, int):
            problems.append(f"expected GPU indices, got {shown(index)}")
        elif index < 0:
            problems.append(f"GPU index {index} is negative; the first GPU is 0")
        elif index in value[:position]:
            problems.append(f"GPU index {index} is there twice")
    if not value:
        problems.append("expected at least one GPU index, or none for a node without GPUs")
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return value


def _batch(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and (match := re.fullmatch(r"([1-9][0-9]?|100)%", value)):
        return f"{int(match[1])}%"
    raise ValueError(f'expected a number of nodes from 1 or a share such as "25%", got {shown(value)}')


def memory_bytes(text: str) -> int:
    """The bytes that a size such as `512m` or `16g` means. Raises ValueError when it is none."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a size such as 512m or 16g, got {shown(text)}")
    return int(match[1]) * _UNITS[match[2].lower()]


def _memory(value: str) -> str:
    memory_bytes(value)
    return value.lower()


def _absolute(value: str) -> str:
    if not value.startswith("/") or ".." in PurePosixPath(value).parts:
        raise ValueError(f"expected an absolute path on the host, got {shown(value)}")
    return str(PurePosixPath(value))


def _off(value: object) -> object:
    """`false`, which is also how YAML reads `off`: none."""
    return None if value is False else value


def _keys(value: object) -> object:
    """API keys as a list, or one text with commas or blanks between them (what an encrypted value holds)."""
    keys = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("expected a list of keys, or one text with commas between them")
    wrong = [str(number) for number, key in enumerate(keys, start=1) if not re.fullmatch(API_KEY, key)]
    if wrong:
        allowed = "8 to 256 letters, digits or any of . _ ~ + / = -"
        raise ValueError(f"expected keys of {allowed}; not so: number {', '.join(wrong)}")
    return keys


Port = Annotated[
    int, BeforeValidator(_port), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535})
]
Gpus = Annotated[
    Literal["all", "none"] | list[int],
    BeforeValidator(parse_gpus),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["all", "none"]},
                {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": True,
                    "items": {"type": "integer", "minimum": 0},
                },
            ]
        }
    ),
]
HostAddress = Annotated[
    Host,
    BeforeValidator(parse_host),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": PATTERN}),
]
Batch = Annotated[
    int | str,
    BeforeValidator(_batch),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": "^([1-9][0-9]?|100)%$"},
            ]
        }
    ),
]
Memory = Annotated[
    str, AfterValidator(_memory), Field(json_schema_extra={"pattern": "^[1-9][0-9]*[kKmMgG]?[bB]?$"})
]
HostPath = Annotated[str, AfterValidator(_absolute), Field(json_schema_extra={"pattern": "^/"})]
# What nginx, URLs and `ssh` all take for a host: a DNS name or an IP address.
DialledHost = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.:-]{0,252}[A-Za-z0-9_.])?$")
]
# A path that stands in nginx's configuration without quotes.
PemPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9_./+@:,=-]+$")]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
RuntimeName = Literal["triton", "edge-llm", "remote"]
Secret = Annotated[SecretStr, Field(strict=False)]
Keys = Annotated[
    list[Secret],
    BeforeValidator(_keys),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": rf"^[\s,]*({API_KEY}([\s,]+{API_KEY})*)?[\s,]*$"},
                {
                    "type": "array",
                    "items": {"type": "string", "format": "password", "pattern": f"^{API_KEY}$"},
                },
            ]
        }
    ),
]


class Ports(Section):
    """The ports that a node's host publishes (Triton's and the unit manager's only when asked for)."""

    http: Port = 8800
    """The inference service's HTTP port."""
    grpc: Port = 9800
    """The inference service's gRPC port."""
    triton_http: Port = 8000
    triton_grpc: Port = 8001
    triton_metrics: Port = 8002
    unit_manager: Port = 8801


class Build(Section):
    """An image built from a folder; `args` alone are for this project's own."""

    context: NonEmpty = "."
    """The build context, relative to the project."""
    dockerfile: NonEmpty = "Dockerfile"
    """The Dockerfile, relative to the context."""
    args: dict[str, str] = Field(default_factory=dict)
    """Build arguments, e.g. BASE_IMAGE where the public base image cannot be had."""


class ImageSource(Section):
    """An image that is there already, or one that is built."""

    image: NonEmpty | None = None
    """The image's reference; it is used as it is."""
    build: Build | None = None
    """true: built from this project, where it has what it takes; or what it is built from."""

    default_image: ClassVar[str | None] = None
    own_build: ClassVar[Build | None] = None

    @field_validator("build", mode="before")
    @classmethod
    def _build_of(cls, value: object) -> object:
        if value is None or isinstance(value, dict | Build):
            return value
        if cls.own_build is None:
            raise ValueError(f"expected {{context: …}}, got {shown(value)}")
        if value is not True:
            raise ValueError(f"expected true or {{context: …}}, got {shown(value)}")
        return {}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.image is not None and self.build is not None:
            raise ValueError("expected image or build, got both")
        return self

    @property
    def source(self) -> str | Build | None:
        """The image's reference, or what it is built from; None where none was named."""
        if self.image is not None:
            return self.image
        if self.build is None:
            return self.default_image or self.own_build
        # Arguments alone, or none, are for this project's own build.
        if self.own_build is not None and self.build.model_fields_set <= {"args"}:
            return self.own_build.model_copy(update={"args": self.build.args})
        return self.build


class Remote(Section):
    """The inference service that a `remote` node forwards to."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+")] | None = None
    """Its base address, e.g. https://ai.example.com."""
    token: Secret | None = None
    """Its API key."""
    timeout_seconds: Positive = 60


class Node(Section):
    """One GPU host: an inference runtime and the inference service."""

    host: HostAddress
    """ssh://user@host[:port], unix:///var/run/docker.sock, or embedded (processes on this computer)."""
    name: Name = Field(default_factory=lambda data: _name_of(data["host"]))
    """Names the node's containers; from the host when left out."""
    public_host: DialledHost = Field(default_factory=lambda data: data["host"].address)
    """What the gateway dials; the host's address when left out."""
    ports: Ports = Field(default_factory=Ports)
    """What differs from the stack's `ports` on this node."""
    public_http_port: Port = Field(default_factory=lambda data: data["ports"].http)
    """The port that the gateway dials for HTTP; behind NAT it differs from the node's own."""
    public_grpc_port: Port = Field(default_factory=lambda data: data["ports"].grpc)
    """The port that the gateway dials for gRPC."""
    runtime: RuntimeName = "triton"
    gpus: Gpus = Field(
        default_factory=lambda data: (
            "none" if isinstance(data["host"], EmbeddedHost) or data["runtime"] == "remote" else "all"
        )
    )
    """all, none, or GPU indices. all when left out; none for embedded and remote nodes."""
    remote: Remote = Field(default_factory=Remote)
    """What differs from the stack's `remote` on this node."""
    drained: bool = False
    """true: stays deployed, and the gateway sends it nothing."""

    @property
    def wants_gpus(self) -> bool:
        """Whether the node's runtime asks for GPUs."""
        return self.gpus != "none"

    @property
    def embedded(self) -> bool:
        """Whether the node is made of processes on this computer."""
        return isinstance(self.host, EmbeddedHost)


class Triton(ImageSource):
    """The Triton runtime."""

    default_image = TRITON_IMAGE
    own_build = Build(context=".", dockerfile="docker/triton.Dockerfile")

    publish: bool = False
    """Publish Triton's ports on the host; off, only the service reaches them."""
    shm_size: Memory = "1g"
    """The shared memory between Triton and the service, and of Triton's python backend."""
    memory: Memory | None = None
    """The container's memory limit."""
    extra_args: list[str] = Field(default_factory=list)
    """Further arguments for tritonserver."""
    env: dict[str, str] = Field(default_factory=dict)
    user: NonEmpty | None = None
    """The user that the container runs as; the image's own when left out."""


class EdgeLlmPart(ImageSource):
    """One of the Edge-LLM containers."""

    command: list[str] = Field(default_factory=list)
    """Replaces the image's command."""
    env: dict[str, str] = Field(default_factory=dict)
    memory: Memory | None = None
    """The container's memory limit."""
    user: NonEmpty | None = None
    """The user that the container runs as; the image's own when left out."""


class EdgeLlm(Section):
    """The Edge-LLM runtime: a unit manager and an llm node on one host, with one /tmp between them."""

    unit_manager: EdgeLlmPart = Field(default_factory=EdgeLlmPart)
    llm_node: EdgeLlmPart = Field(default_factory=EdgeLlmPart)
    publish: bool = False
    """Publish the unit manager's port (`ports.unitManager`) on the host."""
    model_path: HostPath = "/models"
    """Where the llm node sees the models."""


class Service(ImageSource):
    """The inference service."""

    own_build = Build(context=".", dockerfile="docker/service.Dockerfile")

    workers: Annotated[int, Field(ge=1, le=256)] = 2
    """Processes."""
    max_concurrency: Annotated[int, Field(ge=1)] = 64
    """Requests that the node works on at a time."""
    shutdown_grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """How long a stopping service may take to finish what it is doing."""
    memory: Memory | None = None
    """The container's memory limit."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The service's own settings, as in ai-inference-service.yaml."""
    env: dict[str, str] = Field(default_factory=dict)


class Models(Section):
    """Where the models come from."""

    source: Annotated[str, StringConstraints(pattern=r"^(host|sync|(s3|gs|as)://.+)$")] = "host"
    """host: already on each node; sync: copied from here; or an object store: s3://, gs://, as://."""
    path: NonEmpty = Field(
        default_factory=lambda data: "./model_repository" if data["source"] == "sync" else "/models"
    )
    """host: the folder on each node; sync: the folder here, relative to the project."""
    credentials: dict[str, Secret] = Field(default_factory=dict)
    """Object store: environment variables of Triton, e.g. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."""

    @property
    def object_store(self) -> bool:
        """Whether Triton reads the models itself from an object store."""
        return "://" in self.source


class Tls(Section):
    """The gateway's certificate."""

    certificate: PemPath
    """The certificate chain (PEM), a path on the gateway's host."""
    key: PemPath
    """Its private key (PEM), a path on the gateway's host."""


class RateLimit(Section):
    """How many requests a client may make through the gateway."""

    requests_per_second: Positive = 50
    burst: Annotated[int, Field(ge=0)] = 10
    """Requests over the rate that are let through before the rest are refused with 429."""


class Gateway(Section):
    """The one HTTP and the one gRPC entrance over all nodes."""

    mode: Literal["container", "existing", "embedded"] = "container"
    """container: nginx in Docker; existing: an nginx that is there already; embedded: a process here.
    embedded when left out and every node is embedded, else container."""
    host: HostAddress = EmbeddedHost()
    """Where it runs; the first node's host when left out."""
    public_host: DialledHost = Field(default_factory=lambda data: data["host"].address)
    """The name that clients use; the host's address when left out."""
    http: Port = 8080
    grpc: Port = 9080
    image: NonEmpty = NGINX_IMAGE
    """container: the nginx image."""
    conf_dir: HostPath = "/etc/nginx/conf.d"
    """existing: the folder whose ai_inference_service.servers*.conf the site includes."""
    nginx: NonEmpty = "nginx"
    """existing: the command that is that nginx, e.g. `sudo nginx` or `docker exec site-nginx nginx`."""
    bind: DialledHost | None = None
    """The IP address to listen on; all when left out (embedded: this computer only)."""
    grpc_balancing: Literal["http2", "layer4"] = "http2"
    """http2: gRPC calls are balanced; layer4: gRPC connections are."""
    tls: Tls | None = None
    rate_limit: Annotated[RateLimit | None, BeforeValidator(_off)] = Field(
        default_factory=lambda data: None if data["mode"] == "embedded" else RateLimit(),
    )
    """false: none. Left out: 50 requests a second and a burst of 10; none for an embedded gateway."""


class Rollout(Section):
    """The order in which nodes change."""

    canary: Annotated[int, Field(ge=0)] = 1
    """Nodes that change first, one by one."""
    batch: Batch = 1
    """Nodes that change at a time after that: a number, or a share of the fleet such as "25%"."""
    unreachable: Literal["fail", "skip"] = "fail"
    """A host that cannot be reached: fail changes nothing; skip updates the rest."""
    ready_timeout_seconds: Annotated[int, Field(ge=1, le=7200)] = 300
    """How long a changed node may take until its health route answers 200."""


class Ssh(Section):
    """What differs from the user's own SSH configuration and agent. Host keys are always checked."""

    known_hosts: NonEmpty | None = None
    """A known_hosts file."""
    private_key_file: NonEmpty | None = None
    proxy_jump: NonEmpty | None = None
    """Jump hosts, as `ssh -J` takes them."""
    config_file: NonEmpty | None = None
    """An SSH configuration file, as `ssh -F` takes it."""


class Images(Section):
    """Where built images go."""

    registry: NonEmpty | None = None
    """Build once and push here, e.g. registry.example.com/gpu; left out, each host builds its own."""
    username: NonEmpty | None = None
    password: Secret | None = None
    platform: NonEmpty = "linux/amd64"


class Stack(Section):
    """One fleet."""

    nodes: list[Node] = Field(min_length=1)
    ports: Ports = Field(default_factory=Ports)
    triton: Triton = Field(default_factory=Triton)
    edge_llm: EdgeLlm = Field(default_factory=EdgeLlm)
    remote: Remote = Field(default_factory=Remote)
    service: Service = Field(default_factory=Service)
    models: Models = Field(default_factory=Models)
    gateway: Gateway = Field(default_factory=Gateway)
    rollout: Rollout = Field(default_factory=Rollout)
    ssh: Ssh = Field(default_factory=Ssh)
    images: Images = Field(default_factory=Images)
    remote_dir: HostPath = "/opt/gpu-inference"
    """The folder on each host that synced models and the gateway's configuration are kept in."""
    api_keys: Keys = Field(default_factory=list)
    """Keys that clients must send; none: no key is asked for. Kept as a secret."""

    _name: str = PrivateAttr(default="stack")
    _encrypted: tuple[str, ...] = PrivateAttr(default=())

    @property
    def name(self) -> str:
        """The stack's name; not a key of the file."""
        return self._name

    @property
    def encrypted(self) -> tuple[str, ...]:
        """The keys, by path, whose encrypted values are left out (files read without Pulumi)."""
        return self._encrypted

    def node(self, name: str) -> Node:
        """The node of that name. Raises KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def _name_of(host: Host) -> str:
    """A node's name from its host: stable, and fit for container names."""
    match host:
        case SshHost(address=address, port=port):
            text = address if port in (None, 22) else f"{address}-{port}"
        case UnixHost():
            text = "local"
        case EmbeddedHost():
            text = "embedded"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
