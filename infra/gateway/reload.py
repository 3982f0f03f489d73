"""Scripts that reload a gateway's nginx: it then reads its changed configuration.

Each runs on the gateway's host and does nothing while that nginx does not run. Steps import this module, so
it must stay light.
"""

import shlex

from infra import names

#: How long a reload may take.
SECONDS = 30


def container(name: str) -> str:
    """Reloads the nginx in the container of that name."""
    quoted = shlex.quote(name)
    return (
        f'[ "$(docker inspect --format "{{{{.State.Running}}}}" {quoted} 2>/dev/null)" != true ]'
        f" || docker exec {quoted} nginx -c {names.mounted_nginx_conf()} -s reload"
    )


def existing(file: str, nginx: str) -> str:
    """Reloads the nginx that the command `nginx` runs, if its site has the stack's upstream file."""
    return f"[ ! -e {shlex.quote(file)} ] || {nginx} -s reload"
