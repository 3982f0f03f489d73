"""The warning of a preview that a fleet runs a release of Triton with known faults."""

from __future__ import annotations

import re

from infra.stack import Build, Stack

# By NVIDIA's security bulletins 5687 (August 2025) to 5875 (September 2026): each names the release that
# mends its faults, many of which let whoever reaches Triton's ports run code. docs/deploy.md has the list.
_FIRST_WITHOUT = (26, 7)
_RELEASE = re.compile(r"tritonserver:(\d\d)\.(\d\d)\b")


def warning(stack: Stack) -> str | None:
    """The warning; None where the image's name tells no release, or one without known faults."""
    source = stack.triton.source
    image = source.args.get("BASE_IMAGE", "") if isinstance(source, Build) else str(source)
    found = _RELEASE.search(image)
    if found is None or not any(node.runtime == "triton" and not node.embedded for node in stack.nodes):
        return None
    release = (int(found[1]), int(found[2]))
    if release >= _FIRST_WITHOUT:
        return None
    first = ".".join(f"{part:02}" for part in _FIRST_WITHOUT)
    return (
        f"{image}: Triton {found[1]}.{found[2]} has known faults that let others run code through its ports "
        f"(NVIDIA's security bulletins 5687 to 5875); use {first} or later. Until then, do not publish them."
    )
