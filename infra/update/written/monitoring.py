"""The configurations of what watches a fleet, against what the last update wrote on their host."""

from infra import names
from infra.monitoring.folders import APPLIED, CONFIGURATIONS, DATA, DIGESTS
from infra.monitoring.parts import parts
from infra.stack import Stack
from infra.update.questions import Question

# The arguments, for each part: its name, its folder and its container. A part without a container is new, or
# Pulumi creates all of it again. `uniq -u` leaves the lines that only the record or only the folder has.
_SCRIPT = f"""
found() {{
  cd -- "$1" 2>/dev/null && [ -d {CONFIGURATIONS} ] && [ -d {DATA} ] ||
    {{ echo "its folder is gone"; return; }}
  [ -e {APPLIED} ] || {{ echo "there is no record of what was written"; return; }}
  cd {CONFIGURATIONS}
  [ -d {names.CURRENT} ] || {{ echo "its configuration is gone"; return; }}
  [ "$(readlink {names.CURRENT})" = "$(head -n 1 ../{APPLIED})" ] ||
    {{ echo "{names.CURRENT} leads to another configuration"; return; }}
  {{ sed 1d ../{APPLIED}; cd {names.CURRENT}; {DIGESTS} 2>/dev/null; }} | sort | uniq -u |
    sed 's,^[^ ]*  [.]/,,' | sort -u | while IFS= read -r file; do echo "$file is not as it was written"; done
}}
while [ $# -gt 0 ]; do
  ! docker inspect --format . "$3" >/dev/null 2>&1 ||
    (found "$2") | while IFS= read -r reason; do printf '%s %s\\n' "$1" "$reason"; done
  shift 3
done
"""


def question(stack: Stack) -> Question:
    """The question for the host of monitoring."""
    arguments: list[str] = []
    for part in parts(stack):
        folder, container = (
            of(stack, part.name) for of in (names.monitoring_folder, names.monitoring_container)
        )
        arguments += [part.name, folder, container]
    return Question(_SCRIPT, tuple(arguments))


def parsed(output: str) -> dict[str, tuple[str, ...]]:
    """The differences in the answer, by part."""
    found: dict[str, tuple[str, ...]] = {}
    for line in output.splitlines():
        part, _, reason = line.partition(" ")
        found[part] = (*found.get(part, ()), reason)
    return found
