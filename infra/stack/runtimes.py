"""The parts of a node: Triton or Edge-LLM, the inference service, and the models."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from inference_service.settings import RequestSettings
from infra import names
from infra.stack.images import Build, ImageSource, OwnBuild
from infra.stack.section import Section
from infra.stack.values import HostPath, Memory, NonEmpty, Secret, off

TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:26.09-py3"

MemoryLimit = Annotated[Memory | None, BeforeValidator(off)]
PidsLimit = Annotated[Annotated[int, Field(ge=64, le=4194304)] | None, BeforeValidator(off)]

# A Triton with a model for each of 128 cores has thousands of threads; a fork bomb has more.
_PIDS = 8192


class Triton(ImageSource):
    """The Triton runtime."""

    default_image = TRITON_IMAGE
    own_build = OwnBuild(context=".", dockerfile="docker/triton.Dockerfile")

    publish: bool = False
    """Publish Triton's ports on the host. Without it only the service reaches them."""
    shm_size: Memory = "1g"
    """The size of /dev/shm, which Triton, its python backend and the service share."""
    memory: MemoryLimit = "32g"
    """The container's memory limit; false: none."""
    pids_limit: PidsLimit = _PIDS
    """Processes and threads that the container may have; false: no limit."""
    read_only: bool = True
    """The container's root is read-only; models write to /tmp and /var/tmp. false: to the root, too."""
    extra_args: list[str] = Field(default_factory=list)
    """Additional arguments of tritonserver."""
    env: dict[str, str] = Field(default_factory=dict)
    user: NonEmpty | None = None
    """The user that the container runs as. Default: 1000:1000. Another one needs the group 1000: the service
    shares its audio with Triton's user and group alone, and sends it over gRPC otherwise."""


class EdgeLlmPart(ImageSource):
    """One of the Edge-LLM containers."""

    command: list[str] = Field(default_factory=list)
    """Replaces the image's command."""
    env: dict[str, str] = Field(default_factory=dict)
    memory: MemoryLimit = None
    """The container's memory limit. Default: none."""
    pids_limit: PidsLimit = _PIDS
    """Processes and threads that the container may have; false: no limit."""
    read_only: bool = False
    """true: the container's root is read-only; /tmp, which both parts share, is not."""
    user: NonEmpty | None = None
    """The user that the container runs as. Default: the image's own."""


class EdgeLlm(Section):
    """The Edge-LLM runtime: a unit manager and an llm node on one host, with one /tmp between them."""

    unit_manager: EdgeLlmPart = Field(default_factory=EdgeLlmPart)
    llm_node: EdgeLlmPart = Field(default_factory=EdgeLlmPart)
    publish: bool = False
    """Publish the unit manager's port (`ports.unitManager`) on the host."""
    model_path: HostPath = names.MODELS_MOUNT
    """Where the llm node sees the models."""


class Service(ImageSource):
    """The inference service."""

    own_build = OwnBuild(context=".", dockerfile="docker/service.Dockerfile")

    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes."""
    max_concurrency: Annotated[int, Field(ge=1)] = 64
    """Requests that the node runs at the same time."""
    memory: MemoryLimit = "16g"
    """The container's memory limit; false: none."""
    pids_limit: PidsLimit = _PIDS
    """Processes and threads that the container may have; false: no limit."""
    read_only: bool = Field(
        default_factory=lambda data: data.get("image") is None and _own(data.get("build"))
    )
    """The container's root is read-only, and its settings are in an environment variable, which services
    before 0.1.0 do not read. Default: true for the image that is built from this project, else false."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The service's settings, as in ai-inference-service.yaml."""
    shutdown_grace_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default_factory=lambda data: _longest_request(data.get("config", {}))
    )
    """How long a stopping node may take to finish running requests and streams. Default: the longest that a
    request may take, `config.ai.request.timeout` (150). Recordings may take longer, and are then cut."""
    env: dict[str, str] = Field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether it is built from this project."""
        return self.image is None and _own(self.build)


def _longest_request(config: dict[str, Any]) -> int:
    """The seconds that one request may take, by the service's settings; the rules check these."""
    try:
        request = RequestSettings.model_validate({"timeout": config["ai"]["request"]["timeout"]})
    except (KeyError, TypeError, ValidationError):
        request = RequestSettings()
    return min(max(math.ceil(request.timeout), 1), 3600)


class Models(Section):
    """Where the models come from."""

    source: Annotated[str, StringConstraints(pattern=r"^(host|sync|(s3|gs|as|claim|image)://.+)$")] = "host"
    """host: already on each node; sync: copied from this computer; or an object store: s3://, gs://, as://.
    In a cluster also claim://NAME[/FOLDER], a PersistentVolumeClaim, or image://REFERENCE[?FOLDER], an image
    volume."""
    path: NonEmpty = Field(
        default_factory=lambda data: "./model_repository" if data["source"] == "sync" else "/models"
    )
    """host: the folder on each node; sync: the folder on this computer, relative to the project. In a
    cluster, if it is given: the folder on this computer with what the claim or the object store holds; when
    its content changes, the pods start anew."""
    credentials: dict[str, Secret] = Field(default_factory=dict)
    """Object store: environment variables of Triton, e.g. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."""
    allow_rules: bool | None = None
    """false: tasks whose model is a rule or a lexicon are not offered (501). true: they are offered, and the
    doctor does not warn. Default: they are offered, and the doctor warns."""

    @property
    def object_store(self) -> bool:
        """Whether Triton reads the models itself from an object store."""
        return self.source.partition("://")[0] in ("s3", "gs", "as")

    @property
    def claim(self) -> str | None:
        """The PersistentVolumeClaim that holds the models; None for another source."""
        return self._after("claim").partition("/")[0] if self._is("claim") else None

    @property
    def image(self) -> str | None:
        """The image that holds the models; None for another source."""
        return self._after("image").partition("?")[0] if self._is("image") else None

    @property
    def folder(self) -> str:
        """The folder of the models in the claim or in the image; empty for its root."""
        sign = "/" if self._is("claim") else "?"
        return self._after(self.source.partition("://")[0]).partition(sign)[2].strip("/")

    def _is(self, kind: str) -> bool:
        return self.source.startswith(f"{kind}://")

    def _after(self, kind: str) -> str:
        return self.source.removeprefix(f"{kind}://")


def _own(build: Build | None) -> bool:
    """Whether a service's build is that of this project."""
    return build is None or build.model_fields_set <= {"args"}
