"""Where the pods' models are: a claim, an image, or an object store that Triton reads itself."""

from infra import names
from infra.digest import digest
from infra.kubernetes.labels import Manifest
from infra.kubernetes.pods import mount
from infra.models.backends import needs_of
from infra.models.files import versions
from infra.paths import project_path
from infra.stack import Stack

VOLUME = "models"
#: The Secret's keys for the object store are the variables of Triton.


def volumes(stack: Stack) -> list[Manifest]:
    """The volume with the models; none for an object store."""
    models = stack.models
    if models.claim is not None:
        claim = {"claimName": models.claim, "readOnly": True}
        return [{"name": VOLUME, "persistentVolumeClaim": claim}]
    if models.image is not None:
        return [{"name": VOLUME, "image": {"reference": models.image, "pullPolicy": "IfNotPresent"}}]
    return []


def mounts(stack: Stack, target: str) -> list[Manifest]:
    """What makes the models visible at `target` in a container, read-only."""
    if not volumes(stack):
        return []
    # Kubernetes before 1.33 cannot mount a folder of an image alone.
    folder = stack.models.folder if stack.models.claim is not None else ""
    return [mount(VOLUME, target, read_only=True, sub_path=folder)]


def repository(stack: Stack) -> str:
    """The folder of the models, or the URL of the object store, as a container sees it."""
    if stack.models.object_store:
        return stack.models.source
    if stack.models.image is not None and stack.models.folder:
        return f"{names.MODELS_MOUNT}/{stack.models.folder}"
    return names.MODELS_MOUNT


def credentials(stack: Stack) -> dict[str, str]:
    """The variables of Triton with which it reads the object store: secrets."""
    return {name: value.get_secret_value() for name, value in stack.models.credentials.items()}


def known(stack: Stack) -> dict[str, str]:
    """The versions of the models by the folder on this computer that has the same ones; empty without it.

    Raises ModelsError.
    """
    if "path" not in stack.models.model_fields_set:
        return {}
    return versions(project_path(stack.models.path))


def revision(stack: Stack) -> str | None:
    """The digest of the models' content; None where it is not known."""
    found = known(stack)
    return digest((), *(f"{model} {version}" for model, version in sorted(found.items()))) if found else None


def builds_engines(stack: Stack) -> bool:
    """Whether Triton builds TensorRT engines at the first load, which takes minutes."""
    folder = project_path(stack.models.path)
    return any(needs_of(folder / model).builds_engines for model in known(stack))
