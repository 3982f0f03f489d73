"""The gateway's configuration as its step reads it. The step imports this module, so it must stay light."""

import hashlib

from msgspec import UNSET, UnsetType

from infra.connection import Connection
from infra.declaration import Declaration


class ContainerConfiguration(Declaration, frozen=True, kw_only=True, tag_field="mode", tag="container"):
    """A configuration of the nginx in the gateway's container.

    `folder`, on the gateway's host, keeps the configurations: this one as `revision` with `files`. The
    container sees `mounts` at the same paths. `image` is the nginx that tests the configuration.
    `dials` are the addresses (`host:port`) of the nodes that it dials by TLS. Without any, the text of the
    declaration is that of versions without TLS, so that a stack of theirs has no change.
    """

    connection: Connection
    folder: str
    container: str
    image: str
    mounts: tuple[str, ...]
    revision: str
    files: dict[str, str]
    dials: tuple[str, ...] | UnsetType = UNSET


class ExistingSite(Declaration, frozen=True, kw_only=True, tag_field="mode", tag="existing"):
    """The stack's upstream file in a site of somebody else's nginx.

    `file` is its path on the gateway's host and `servers` its content. `sets_aside` is the path, with
    wildcards, of the files that the site includes. In `folder` the step notes how to go back. `nginx` is the
    command that runs the site's nginx.
    """

    connection: Connection
    stack: str
    folder: str
    file: str
    nginx: str
    sets_aside: str
    servers: str


Configuration = ContainerConfiguration | ExistingSite

#: In the folder of configurations, what the step applied last. One line tells this run of the step from
#: others. One has `REVISION` and the configuration's name or, for an existing site, its file's SHA-256. The
#: others have `FILE`, the SHA-256 of a file of the configuration, and its name.
APPLIED = ".applied"
REVISION, FILE = "revision ", "file "


def applied_file(configuration: Configuration) -> str:
    """The path of that file on the gateway's host; an existing site has one for each upstream file."""
    name = APPLIED
    if isinstance(configuration, ExistingSite):
        name += f"-{sha256(configuration.file)[:16]}"
    return f"{configuration.folder}/{name}"


def sha256(text: str) -> str:
    """The digest of a text, as hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()
