"""The stack's upstream file in a site that somebody else's nginx serves.

The site includes `ai_inference_service.servers*.conf` of one folder. While a stack is deployed, its file
replaces the other files that the include matches: the step sets them aside, by a rename within their folder,
and they get their names back when the stack is destroyed. Files of other stacks stay, so that two stacks can
feed one site.

nginx reads its configuration only at a reload, so a change takes effect after nginx's own test has passed.
Until then the host keeps a note of how to go back. If a step is interrupted, the next step follows the note.
"""

import shlex
from pathlib import PurePosixPath

from infra.gateway import reload
from infra.gateway.configuration import ExistingSite
from infra.names import UPSTREAM_FILE_MARK

_FUNCTIONS = """
set -e
live={live} undo={undo} aside={aside}
folder=$(dirname "$live")
[ -d "$folder" ] || {{ echo "there is no folder $folder" >&2; exit 1; }}
there() {{ [ -e "$1" ] || [ -L "$1" ]; }}
begins() {{ [ -f "$1" ] && IFS= read -r line <"$1" && case "$line" in "$2"*) ;; *) false;; esac; }}
of_a_stack() {{ begins "$1" {mark}; }}
ours() {{ begins "$1" {our_mark}; }}
go_back() {{
  if [ ! -d "$undo" ]; then return; fi
  while read -r name; do
    if there "$name" && ! there "$name$aside"; then mv "$name" "$name$aside"; fi
  done <"$undo/put-back"
  if [ -e "$undo/live" ]; then cp -p "$undo/live" "$live.new"; mv -f "$live.new" "$live"
  elif ours "$live"; then rm -f "$live"; fi
  while read -r name; do
    if there "$name$aside" && ! there "$name"; then mv "$name$aside" "$name"; fi
  done <"$undo/set-aside"
  rm -rf "$undo"
}}
begin() {{
  go_back
  rm -rf "$undo.new"
  mkdir -p "$undo.new"
  : >"$undo.new/put-back"
  : >"$undo.new/set-aside"
  if ours "$live"; then cp -p "$live" "$undo.new/live"; fi
  mv "$undo.new" "$undo"
}}
"""

_PUT = """
begin
cat >"$live.new"
[ "$(wc -c <"$live.new")" -eq {size} ] || {{ echo "only a part of the file arrived" >&2; exit 1; }}
for name in "$folder"/{pattern}; do
  if there "$name" && ! of_a_stack "$name"; then
    echo "$name" | tee -a "$undo/set-aside"
    mv -f "$name" "$name$aside"
  fi
done
mv -f "$live.new" "$live"
"""

_TAKE_AWAY = """
begin
if ours "$live"; then rm -f "$live"; fi
for file in "$folder"/{pattern}"$aside"; do
  if there "$file"; then
    name=${{file%"$aside"}}
    # If somebody created a file of that name meanwhile, keep it.
    if there "$name"; then rm -f "$file"; else echo "$name" >>"$undo/put-back"; mv "$file" "$name"; fi
  fi
done
"""

_GO_BACK = "go_back\n"

_KEEP = """
rm -rf "$undo"
rmdir -p -- "$(dirname "$undo")" 2>/dev/null || :
"""


class Rejected(Exception):
    """nginx rejects the configuration, and nothing was changed; `str(error)` has nginx's message."""

    def __init__(self, host: str, output: str) -> None:
        super().__init__(
            f"the gateway's nginx ({host}) rejects the configuration; nothing was changed:\n{output.strip()}"
        )


def apply(site: ExistingSite) -> list[str]:
    """Puts the stack's file in place and reloads nginx; returns the files that were set aside for it.

    Raises Rejected, with nothing changed, and RemoteError.
    """
    servers = site.servers.encode()
    done = _run(site, _PUT, stdin=servers, size=len(servers))
    _tested(site)
    return done.splitlines()


def remove(site: ExistingSite) -> None:
    """Takes the stack's file away, gives the files set aside their names back, and reloads nginx.

    Raises Rejected, with nothing changed, and RemoteError.
    """
    _run(site, _TAKE_AWAY)
    _tested(site)


def _tested(site: ExistingSite) -> None:
    tested = site.connection.run(f"{site.nginx} -t", allowed=range(255))
    if tested.returncode != 0:
        _run(site, _GO_BACK)
        raise Rejected(site.connection.host, tested.stdout + tested.stderr)
    _run(site, _KEEP)
    site.connection.run(reload.site(site.nginx), timeout=reload.SECONDS)


def _run(site: ExistingSite, script: str, stdin: bytes | None = None, size: int = 0) -> str:
    text = (_FUNCTIONS + script).format(
        live=shlex.quote(site.file),
        undo=shlex.quote(f"{site.folder}/undo"),
        aside=shlex.quote(f".set-aside-by-{site.stack}"),
        mark=shlex.quote(UPSTREAM_FILE_MARK),
        our_mark=shlex.quote(f"{UPSTREAM_FILE_MARK}{site.stack},"),
        pattern=PurePosixPath(site.sets_aside).name,
        size=size,
    )
    return site.connection.run(text, stdin=stdin).stdout
