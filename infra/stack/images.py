"""The sources of container images, and the registry for built images."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from infra.paths import PACKAGE, PROJECT
from infra.stack.section import Section
from infra.stack.shown import shown
from infra.stack.values import NonEmpty, Secret


class Build(Section):
    """An image built from a folder; `args` without a context apply to this project's own build."""

    context: NonEmpty = "."
    """The build context, relative to the project."""
    dockerfile: NonEmpty = "Dockerfile"
    """The Dockerfile, relative to the context."""
    args: dict[str, str] = Field(default_factory=dict)
    """Build arguments, e.g. BASE_IMAGE if the hosts cannot pull the public base image."""

    @property
    def base(self) -> Path:
        """The folder that `context` is relative to."""
        return PROJECT


class OwnBuild(Build):
    """An image of this package's own, built from its own files."""

    @property
    def base(self) -> Path:
        """The folder that `context` is relative to."""
        return PACKAGE


class ImageSource(Section):
    """An image that exists already, or one to build."""

    image: NonEmpty | None = None
    """The reference of an existing image."""
    build: Build | None = None
    """true: built from this project; or the folder and Dockerfile to build from."""

    default_image: ClassVar[str | None] = None
    own_build: ClassVar[OwnBuild | None] = None

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
        """The image's reference, or its build; None if the stack names neither and there is no default."""
        if self.image is not None:
            return self.image
        if self.build is None:
            return self.default_image or self.own_build
        # Arguments alone, or none, are for this project's own build.
        if self.own_build is not None and self.build.model_fields_set <= {"args"}:
            return self.own_build.model_copy(update={"args": self.build.args})
        return self.build


class Login(Section):
    """How hosts log in to a registry from which they pull."""

    registry: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?$")]
    """Its name and port, as references of images begin: nvcr.io, registry.example.com:5000."""
    username: NonEmpty
    password: Secret


class Images(Section):
    """Where built images go, and how hosts log in to registries."""

    registry: NonEmpty | None = None
    """Build once and push here, e.g. registry.example.com/gpu. Default: `build` decides."""
    username: NonEmpty | None = None
    password: Secret | None = None
    build: Literal["once", "everywhere"] = "once"
    """Without a registry, once: the first host builds each image, and the others get copies, which pass
    through this computer. everywhere: each host builds its own."""
    platform: NonEmpty = "linux/amd64"
    logins: list[Login] = Field(default_factory=list)
    """Logins of further registries, for private images that the stack names, the gateway's too."""

    @property
    def registry_host(self) -> str | None:
        """The name and port of `registry`, without its folders."""
        return self.registry.split("/")[0] if self.registry is not None else None
