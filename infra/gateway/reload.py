"""Scripts that reload a gateway's nginx: it then reads its changed configuration.

A reload is a signal. Each script ends when nginx's workers with the former configuration take no more
connections: until then, requests go by it, to a node that may be about to stop. Each runs on the gateway's
host and does nothing while that nginx does not run. Steps import this module, so it must stay light.
"""

import shlex

from infra import names

#: How long a reload may take, the way to the host included.
SECONDS = 40

_WAIT_SECONDS = 20

# nginx writes what a worker does into its title. With `^`, this script and grep itself do not count.
_BEFORE = r"""before=
for worker in $(grep -ls '^nginx: worker process' /proc/[0-9]*/cmdline); do
  grep -qs 'shutting down' "$worker" || before="$before $worker"
done"""

# One worker is enough: nginx tells all of its own at once, and other nginx on the host go on.
_WAIT = r"""
[ -n "$before" ] || exit 0
polls=0
while [ $polls -lt {polls} ]; do
  for worker in $before; do
    grep -qs '^nginx: worker process' "$worker" || exit 0
    if grep -qs 'shutting down' "$worker"; then exit 0; fi
  done
  sleep 0.1
  polls=$((polls + 1))
done
echo "nginx goes on with its former configuration after {seconds} s; its error log has the reason" >&2
exit 1"""


def container(name: str) -> str:
    """Reloads the nginx in the container of that name."""
    quoted = shlex.quote(name)
    return (
        f'[ "$(docker inspect --format "{{{{.State.Running}}}}" {quoted} 2>/dev/null)" != true ]'
        f" || docker exec {quoted} sh -c {shlex.quote(_reloaded(f'nginx -c {names.mounted_nginx_conf()}'))}"
    )


def existing(file: str, nginx: str) -> str:
    """Reloads the nginx that the command `nginx` runs, if its site has the stack's upstream file."""
    return f"[ ! -e {shlex.quote(file)} ] || {site(nginx)}"


def site(nginx: str) -> str:
    """Reloads the nginx that the command `nginx` runs."""
    return f"sh -c {shlex.quote(_reloaded(nginx))}"


def _reloaded(nginx: str) -> str:
    wait = _WAIT.format(polls=_WAIT_SECONDS * 10, seconds=_WAIT_SECONDS)
    return f"{_BEFORE}\n{nginx} -s reload || exit\n{wait}"
