"""Images of others that a stack names by a tag, whose content can change, and the digests that fix it."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping

from infra import names
from infra.doctor.answers import failing
from infra.doctor.findings import Outcome, ok
from infra.doctor.sites.host import HostSite
from infra.image_references import settings_of
from infra.stack import Build, Host, Stack

#: The sections of the stack file, by part.
_SECTIONS = {names.UNIT_MANAGER: "edgeLlm.unitManager", names.LLM_NODE: "edgeLlm.llmNode"}
_BASE = "BASE_IMAGE"
_DEFAULT_BASE = re.compile(rf"^ARG {_BASE}=(\S+)", re.M)
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


async def base_images(site: HostSite) -> Outcome:
    """Which images on the host another build or pull may change, and the digests that the host has."""
    named = dict(named_by_tag(site.stack, site.access.host))
    if not named:
        return ok("every image that the stack names has a digest")
    script = "; ".join(
        f"docker image inspect --format '{{{{json .RepoDigests}}}}' {shlex.quote(image)} 2>/dev/null || echo"
        for image in named.values()
    )
    with failing("look at Docker on the host: journalctl -u docker"):
        lines = (await site.access.output(script)).splitlines()
    return told(named, {image: _digest(line) for image, line in zip(named.values(), lines, strict=False)})


def named_by_tag(stack: Stack, host: Host) -> Iterator[tuple[str, str]]:
    """The key of the stack file and the reference of each such image on a host, also of those to build on."""
    nodes = [node for node in stack.nodes if node.host == host]
    images = {
        _SECTIONS.get(part, part): settings.source
        for node in nodes
        for part, settings in settings_of(stack, node).items()
    }
    for each in stack.gateways:
        if each.gateway.host == host and each.gateway.mode == "container":
            images["gateway"] = each.gateway.image
            if each.gateway.virtual_address is not None:
                images["gateway.virtualAddress"] = each.gateway.virtual_address.source
    for section, source in images.items():
        key, image = f"{section}.image", source
        if isinstance(source, Build):
            key, image = f"{section}.build.args.{_BASE}", _base(source)
        if isinstance(image, str) and not _DIGEST.search(image):
            yield key, image


def told(named: Mapping[str, str], digests: Mapping[str, str | None]) -> Outcome:
    """The finding for images by key; `digests` are those that the host knows, by image."""
    keys, unknown = [], False
    for key, image in named.items():
        digest = digests.get(image)
        unknown = unknown or digest is None
        keys.append(f"gpu-inference:{key}: {image}@{digest or 'sha256:…'}")
    remedy = f"to fix their content, set {'; '.join(keys)}"
    if unknown:
        remedy += " (`docker buildx imagetools inspect IMAGE` shows a digest)"
    return ok(f"by tags, whose content can change: {', '.join(named.values())}", remedy)


def _base(build: Build) -> str | None:
    """The image that a build starts from; None if its Dockerfile has it in another way."""
    if _BASE in build.args:
        return build.args[_BASE]
    try:
        found = _DEFAULT_BASE.search((build.base / build.context / build.dockerfile).read_text())
    except OSError:
        return None
    return found[1] if found else None


def _digest(line: str) -> str | None:
    """The digest in Docker's list of an image's repositories with their digests."""
    references = json.loads(line) if line.startswith("[") else []
    return references[0].partition("@")[2] if references else None
