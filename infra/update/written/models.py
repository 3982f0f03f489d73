"""The links and copies of models on a host, against what the last update wrote there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from infra import names
from infra.models.files import versions
from infra.models.records import CHANGED, IN_USE, KEPT, RECORDS
from infra.paths import project_path
from infra.stack import Node, Stack
from infra.update.questions import Question

# The arguments, for each node: its name, its folder of models, its service's container, and the links that
# the stack declares. These count where an older release kept no record. A node whose folder or whose service
# is not there is new, or Pulumi creates all of it again.
_SCRIPT = f"""
{CHANGED}
links() {{
  while read -r model wanted; do
    copy=${{wanted##*/}}
    link=$(readlink -- "{names.REPOSITORY}/$model")
    if [ ! -d "{names.STORE}/$copy" ]; then
      if [ "$recorded" ] || [ "$link" = "$wanted" ]; then printf 'lost %s\\n' "$model"; fi
      continue
    fi
    [ "$link" = "$wanted" ] || printf 'link %s %s\\n' "$model" "$link"
    changed "$PWD/{RECORDS}/$copy" "{names.STORE}/$copy" | while IFS= read -r file; do
      printf 'file %s %s\\n' "$model" "$file"
    done
  done
}}
while [ $# -gt 0 ]; do
  printf 'node %s\\n' "$1"
  found=$(
    cd -- "$2" 2>/dev/null && [ -d {names.REPOSITORY} ] && [ -d {names.STORE} ] || {{ echo gone; exit; }}
    recorded=$(cat -- "{RECORDS}/{IN_USE}" 2>/dev/null)
    printf '%s\\n' "${{recorded:-$4}}" | links
    [ ! -f "{RECORDS}/{KEPT}" ] || ls -- "{names.STORE}" | while IFS= read -r copy; do
      grep -qxF -e "$copy" "{RECORDS}/{KEPT}" || printf '%s\\n' "$4" | grep -qF -e "/$copy" ||
        printf 'left %s\\n' "$copy"
    done
  )
  if [ "$found" ] && docker inspect --format . "$3" >/dev/null 2>&1; then printf '%s\\n' "$found"; fi
  shift 4
done
"""


@dataclass(frozen=True)
class ModelDifferences:
    """What is not as written: `copies` are the models whose copies must be made again, and `reasons` say for
    people what was found. With any reason the node must be switched to its models again.

    `gone`: its folders are, so its containers must be replaced to have new ones.
    """

    copies: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()
    gone: bool = False


def copied(stack: Stack, node: Node) -> bool:
    """Whether updates copy models to the node's host."""
    return stack.models.source == "sync" and node.runtime != "remote" and not node.embedded


def question(stack: Stack, nodes: Iterable[Node]) -> Question:
    """The question for the host of these nodes."""
    declared = "\n".join(
        f"{model} ../{names.STORE}/{model}-{version}"
        for model, version in versions(project_path(stack.models.path)).items()
    )
    arguments: list[str] = []
    for node in nodes:
        service = names.container(stack, node, names.SERVICE)
        arguments += [node.name, names.models_folder(stack, node), service, declared]
    return Question(_SCRIPT, tuple(arguments))


def parsed(output: str, models: Iterable[str]) -> dict[str, ModelDifferences]:
    """The differences in the answer, by node; `models` are the names of all models."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        what, _, rest = line.partition(" ")
        if what == "node":
            lines = found[rest] = []
        elif found:
            lines.append(line)
    return {node: _differences(lines, models) for node, lines in found.items()}


def _differences(lines: list[str], models: Iterable[str]) -> ModelDifferences:
    if lines == ["gone"]:
        return ModelDifferences(frozenset(models), ("its folder of models is gone",), gone=True)
    copies = {line.split(" ")[1] for line in lines if line.startswith(("lost ", "file "))}
    return ModelDifferences(frozenset(copies), tuple(_reasons(lines)))


def _reasons(lines: list[str]) -> Iterator[str]:
    for line in lines:
        what, model, rest = [*line.split(" ", 2), ""][:3]
        if what == "lost":
            yield f"model {model}: its copy is gone"
        elif what == "link":
            yield f"model {model}: its link leads to {rest}" if rest else f"model {model}: its link is gone"
        elif what == "file":
            yield f"model {model}: {rest} is not as it was copied"
        elif what == "left":
            yield f"{model} is left of an update that failed"
