"""How the cluster pulls a stack's images: their references, and the logins of their registries."""

import base64
import json

from infra.image_references import ImageReferences, sources
from infra.kubernetes import labels
from infra.kubernetes.labels import Manifest
from infra.stack import Build, Stack


def builds(stack: Stack) -> dict[str, Build]:
    """The images that are built from this project or the user's folders, by part."""
    found = {part: source for node in stack.nodes for part, source in sources(stack, node).items()}
    return {part: source for part, source in found.items() if isinstance(source, Build)}


def references(stack: Stack) -> dict[str, str]:
    """The reference of the image of each part of all pods. Raises ContextError."""
    known = ImageReferences(stack)
    for node in stack.nodes:
        for part, source in sources(stack, node).items():
            known.reference(part, source)
    return known.known


def pull_secret(stack: Stack) -> Manifest | None:
    """The Secret with the logins of registries; None where there are none."""
    images = stack.images
    logins = {login.registry: (login.username, login.password.get_secret_value()) for login in images.logins}
    if images.registry_host is not None and images.username is not None:
        password = images.password.get_secret_value() if images.password is not None else ""
        logins[images.registry_host] = (images.username, password)
    if not logins:
        return None
    auths = {
        registry: {
            "username": user,
            "password": password,
            "auth": base64.b64encode(f"{user}:{password}".encode()).decode(),
        }
        for registry, (user, password) in sorted(logins.items())
    }
    selecting = {labels.STACK: stack.name, labels.COMPONENT: "images"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": labels.metadata(stack, labels.of(stack, "registries"), selecting),
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps({"auths": auths}, sort_keys=True)},
    }
