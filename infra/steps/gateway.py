"""Puts the gateway's configuration in place: `python -m infra.steps.gateway apply|remove`.

The declaration comes on standard input. The gateway's nginx tests a configuration before the switch to it; a
configuration that fails the test changes nothing. `container`: each configuration has a folder on the
gateway's host, and `current` is a link to the one in use. `existing`: the stack has one file in the folder
that the site's nginx includes (`existing_site.py`).
"""

import os
import secrets
import shlex
import subprocess
import sys

from infra import names
from infra.connection import RemoteError
from infra.gateway import reload
from infra.gateway.configuration import (
    FILE,
    REVISION,
    Configuration,
    ContainerConfiguration,
    applied_file,
    sha256,
)
from infra.steps import existing_site, node_ports
from infra.steps.archive import archive
from infra.steps.existing_site import Rejected
from infra.steps.run import run

#: The output of `apply` has a line with this and what tells one run from another.
_RUN = "run "
#: The command provider gives `remove` the output of the `apply` that it undoes.
_OUTPUT_OF_APPLY = "PULUMI_COMMAND_STDOUT"

# The arguments: the folder, the file with what was applied, and its first two lines. The others are digests
# of the files in use, which the next update compares.
_RECORD = f"""
mkdir -p -- "$1"
printf '%s\\n' "$3" "$4" >"$2.new" || exit
if cd -- "$1/{names.CURRENT}" 2>/dev/null; then sha256sum -- * | sed 's/^/{FILE}/' >>"$2.new"; fi
mv -f -- "$2.new" "$2"
"""


def apply(configuration: Configuration) -> None:
    """Tests, switches and reloads. Raises Rejected, with nothing changed, and RemoteError."""
    if isinstance(configuration, ContainerConfiguration):
        _apply_container(configuration)
        revision = configuration.revision
    else:
        revision = sha256(configuration.servers)
        for name in existing_site.apply(configuration):
            print(f"set aside while the stack is deployed: {name}")
    run = secrets.token_hex(8)
    applied = applied_file(configuration)
    configuration.connection.run(_RECORD, configuration.folder, applied, run, f"{REVISION}{revision}")
    print(f"{_RUN}{run}")


def remove(configuration: Configuration) -> None:
    """Takes the configuration away; in an existing site, puts back the file that was there before.

    Pulumi replaces a resource by creating the new one and then deleting the old one. Where both are the same
    file, it is the new one by now and stays.
    """
    file = applied_file(configuration)
    ours = [line for line in os.environ.get(_OUTPUT_OF_APPLY, "").splitlines() if line.startswith(_RUN)]
    last = configuration.connection.run('head -n 1 -- "$1" 2>/dev/null || :', file).stdout.strip()
    if ours and last and ours[-1] != f"{_RUN}{last}":
        return
    configuration.connection.run('rm -f -- "$1"', file)
    if isinstance(configuration, ContainerConfiguration):
        configuration.connection.remove_folder(configuration.folder)
    else:
        existing_site.remove(configuration)


def _apply_container(configuration: ContainerConfiguration) -> None:
    connection, revision = configuration.connection, configuration.revision
    if configuration.dials:
        node_ports.check(connection, configuration.image, configuration.folder, configuration.dials)
    folder = shlex.quote(configuration.folder)
    mounts = " ".join(f"-v {shlex.quote(f'{path}:{path}:ro')}" for path in configuration.mounts)
    connection.run(
        f"set -e; umask 077; mkdir -p {folder}/{revision}; tar -xf - --no-same-owner -C {folder}/{revision}",
        stdin=archive(configuration.files),
    )
    test = (
        f"docker run --rm --network bridge -v {folder}:{names.CONFIGURATIONS_MOUNT}:ro {mounts}"
        f" --add-host host.docker.internal:host-gateway {shlex.quote(configuration.image)}"
        f" nginx -t -c {names.mounted_nginx_conf(revision)}"
    )
    tested = connection.run(test, allowed=range(255))
    if tested.returncode != 0 and "unknown directive" in tested.stdout + tested.stderr:
        tested = connection.run(
            f"cd {folder}/{revision} && cp {names.OLDER_NGINX_CONF} {names.NGINX_CONF} && {test}",
            allowed=range(255),
        )
    if tested.returncode != 0:
        connection.run(
            f'[ "$(readlink {folder}/{names.CURRENT})" = {revision} ] || rm -rf {folder}/{revision}'
        )
        raise Rejected(connection.host, tested.stdout + tested.stderr)
    connection.run(_shared_with_console(configuration))
    connection.run(f"cd {folder} && ln -sfn {revision} .new && mv -T .new {names.CURRENT}")
    if _sees_mounts(configuration):
        # Where somebody removed the folder, the container keeps the former one until it starts again.
        name = shlex.quote(configuration.container)
        test = f"docker exec {name} test -e {names.mounted_nginx_conf(revision)}"
        connection.run(f'[ -z "$(docker ps -q --filter name=^{name}$)" ] || {test} || docker restart {name}')
        connection.run(reload.container(configuration.container), timeout=reload.SECONDS)
    kept = f"{names.CURRENT}|{revision}"
    if names.CONSOLE_SETTINGS in configuration.files:
        kept += f"|{names.CONSOLE_FOLDER}"
    connection.run(
        f'cd {folder} && for old in *; do case "$old" in {kept}) ;; *) rm -rf -- "$old";; esac; done'
    )


def _shared_with_console(configuration: ContainerConfiguration) -> str:
    """A script that makes the folder that nginx and the console share, and puts the console's settings there.

    Another user runs each of them. The configurations beside it stay their owner's alone. The settings are
    renamed into place, because a running console reads them when they change.
    """
    settings = names.CONSOLE_SETTINGS
    if settings not in configuration.files:
        return ":"
    shared = names.CONSOLE_FOLDER
    return (
        f"set -e; cd {shlex.quote(configuration.folder)};"
        f" chmod 711 .; mkdir -p {shared}; chmod 1777 {shared};"
        f" install -m 644 {configuration.revision}/{settings} {shared}/.{settings};"
        f" mv -f {shared}/.{settings} {shared}/{settings}"
    )


def _sees_mounts(configuration: ContainerConfiguration) -> bool:
    """Whether the running container has all folders that the configuration reads.

    A container without a new certificate's folder is replaced after this step.
    """
    name = shlex.quote(configuration.container)
    form = "{{range .Mounts}}{{println .Destination}}{{end}}"
    seen = configuration.connection.run(f"docker inspect --format '{form}' {name}", allowed=range(255))
    return set(configuration.mounts) <= set(seen.stdout.splitlines())


if __name__ == "__main__":
    actions = {"apply": (Configuration, apply), "remove": (Configuration, remove)}
    sys.exit(run(actions, Rejected, node_ports.NoNode, RemoteError, subprocess.TimeoutExpired))
