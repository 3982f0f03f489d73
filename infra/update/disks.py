"""Checks before an update whether each host's disks have room for the images and models that it will get."""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from infra import names
from infra.digest import files_in
from infra.image_references import ImageReferences, sources
from infra.models.files import versions
from infra.monitoring.parts import parts
from infra.paths import project_path
from infra.stack import Build, Host, Stack
from infra.update.questions import Question
from infra.update.written.models import copied

#: Docker keeps the compressed layers until they are unpacked, and those have about twice the size.
UNPACKED = 3
#: What must be free for images of unknown size: too little even for a small one is known to fail.
_LEAST = 1 << 30
_MIB = 1 << 20

# The arguments: `pull` and `build` with an image each, `copy` with the folder of a copy of a model. Of each
# image that is not there it prints what is known of the size: the manifest of one to pull, of one to build
# the size of the newest of that name. For Docker and each copy that is not there: the free KiB, and where.
_SCRIPT = """
root=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)
free() {
  at=$1
  while [ ! -e "$at" ]; do at=$(dirname -- "$at"); done
  printf '%s\\t%s\\t' "$1" "$2"
  df -Pk -- "$at" | awk 'NR == 2 { print $4 "\\t" $6 }'
}
[ -z "$root" ] || free "$root" docker
while [ $# -gt 0 ]; do
  case "$1" in
  copy)
    [ -d "$2" ] || free "$2" copy
    ;;
  *)
    if ! docker image inspect --format . -- "$2" >/dev/null 2>&1; then
      if [ "$1" = pull ]; then
        known=$(timeout 4 docker manifest inspect --verbose "$2" 2>/dev/null | tr -d '\\n\\t')
      else
        newest=$(docker images --quiet --no-trunc -- "${2%:*}" 2>/dev/null | head -n 1)
        known=$([ -z "$newest" ] || docker image inspect --format '{{.Size}}' "$newest" 2>/dev/null)
      fi
      printf '%s\\t%s\\t%s\\n' "$2" "$1" "$known"
    fi
    ;;
  esac
  shift 2
done
"""


@dataclass(frozen=True, slots=True)
class Need:
    """What a host gets: `pull` or `build` an image, or `copy` a model to a folder there, of `size` bytes."""

    how: str
    what: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Full:
    """A file system with too little room; sizes are in bytes."""

    host: Host
    path: str
    needed: int
    free: int
    whats: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.host}: {self.path} has {self.free / _MIB:,.0f} MiB free, and "
            f"{self.needed / _MIB:,.0f} MiB are needed for {', '.join(self.whats)}"
        )


def needs(stack: Stack, away: Set[Host] = frozenset()) -> dict[Host, list[Need]]:
    """What the stack declares on each Docker host, whether it is there or not."""
    found: dict[Host, list[Need]] = {}
    references = ImageReferences(stack)
    builders: set[str] = set()
    models: list[tuple[str, int]] = []
    if any(copied(stack, node) for node in stack.nodes):
        repository = project_path(stack.models.path)
        models = [
            (f"{model}-{version}", sum(path.stat().st_size for _, path in files_in(repository / model)))
            for model, version in versions(repository).items()
        ]
    for node in stack.nodes:
        if node.embedded or node.host in away:
            continue
        there = found.setdefault(node.host, [])
        for part, source in sources(stack, node).items():
            there += _image(stack, part, source, references, builders)
        if copied(stack, node):
            store = f"{names.models_folder(stack, node)}/{names.STORE}"
            there += [Need("copy", f"{store}/{copy}", size) for copy, size in models]
    for each in stack.gateways:
        gateway = each.gateway
        if gateway.mode == "container" and gateway.host not in away:
            found.setdefault(gateway.host, []).append(Need("pull", gateway.image))
    if (watching := stack.monitoring_host) is not None and watching not in away:
        found.setdefault(watching, []).extend(Need("pull", part.image) for part in parts(stack))
    return {host: list(dict.fromkeys(there)) for host, there in found.items()}


def _image(
    stack: Stack, part: str, source: str | Build, references: ImageReferences, builders: set[str]
) -> list[Need]:
    """An image as a host gets it. The step that copies one from the host that builds knows its size."""
    reference = references.reference(part, source)
    if isinstance(source, str):
        return [Need("pull", reference)]
    if part in builders and stack.images.build != "everywhere":
        return []
    builders.add(part)
    return [Need("build", reference)]


def question(wanted: Sequence[Need]) -> Question:
    """The question for a host that will have these."""
    return Question(_SCRIPT, tuple(part for need in wanted for part in (need.how, need.what)))


def parsed(host: Host, wanted: Sequence[Need], output: str, platform: str) -> list[Full]:
    """The file systems with too little room, from the answer to the question."""
    sizes = {need.what: need.size for need in wanted}
    free: dict[str, int] = {}
    needed: dict[str, int] = {}
    least: dict[str, int] = {}
    whats: dict[str, list[str]] = {}
    docker = ""
    for line in output.splitlines():
        what, how, known, *mount = line.split("\t")
        if mount:
            free[mount[0]] = int(known) << 10
        if how == "docker":
            docker = mount[0]
            continue
        place = mount[0] if mount else docker
        size = sizes[what] if how == "copy" else _image_size(how, known, platform)
        needed[place] = needed.get(place, 0) + (size or 0)
        if size is None:
            least[place] = _LEAST
        name = f"the model {what.rpartition('/')[2]}" if how == "copy" else f"the image {what}"
        whats.setdefault(place, []).append(name)
    return [
        Full(host, place, least_size, free[place], tuple(whats[place]))
        for place, size in needed.items()
        if place in free and (least_size := max(size, least.get(place, 0))) > free[place]
    ]


def _image_size(how: str, known: str, platform: str) -> int | None:
    """The bytes that an image takes while it arrives; None: not known."""
    if how == "build":
        return int(known) if known.isdigit() else None
    try:
        manifests = json.loads(known)
    except ValueError:
        return None
    if isinstance(manifests, Mapping):
        manifests = [manifests]
    return max((_compressed(each) for each in _fitting(manifests, platform)), default=0) * UNPACKED or None


def _fitting(manifests: Iterable[object], platform: str) -> list[Mapping[str, Any]]:
    """The manifests of a platform; all of them where none names it."""
    each = [manifest for manifest in manifests if isinstance(manifest, Mapping)]
    system, _, architecture = platform.partition("/")
    return [
        manifest
        for manifest in each
        if (described := manifest.get("Descriptor", {}).get("platform", {})).get("os") == system
        and described.get("architecture") == architecture
    ] or each


def _compressed(manifest: Mapping[str, Any]) -> int:
    content = manifest.get("SchemaV2Manifest") or manifest.get("OCIManifest") or {}
    return sum(int(layer.get("size", 0)) for layer in content.get("layers", []))
