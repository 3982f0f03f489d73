"""`fleet preview`, `deploy`, `rollback`, `destroy` and `env`: Pulumi on a stack, with a summary of nodes."""

import json
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from infra import names
from infra.cli import pulumi_command, stack_files
from infra.cli.options import DEFAULT_STACK, REFRESH, STACK, YES
from infra.cli.screen import Failed, console, piped, show_json, show_table
from infra.kubernetes.pool import tracks
from infra.stack import Node, Stack

#: Resources that say nothing to a person who reads a summary.
_QUIET = ("pulumi:pulumi:Stack", "pulumi:providers:", "gpu-inference:index:")


def preview(
    stack: STACK = DEFAULT_STACK,
    diff: Annotated[bool, typer.Option("--diff", help="show each property that would change")] = False,
    refresh: REFRESH = False,
) -> int:
    """Show what `deploy` would change. Changes nothing on the hosts."""
    stack_files.load(stack)
    pulumi_command.create_if_absent(stack)
    options = [*(["--diff"] if diff else []), *(["--refresh"] if refresh else [])]
    return pulumi_command.run(stack, "preview", *options).status


def deploy(
    stack: STACK = DEFAULT_STACK,
    yes: YES = False,
    as_json: Annotated[bool, typer.Option("--json", help="end with a summary as JSON")] = False,
    refresh: REFRESH = False,
) -> int:
    """Change the fleet to what the stack file says, node by node, and tell what changed."""
    loaded = stack_files.load(stack)
    if not yes and piped():
        raise Failed(f"nobody can confirm the changes here.\nTo go on without: fleet deploy -s {stack} --yes")
    pulumi_command.create_if_absent(stack)
    done = pulumi_command.run(
        stack,
        "up",
        "--suppress-outputs",
        *(["--yes", "--skip-preview"] if yes else []),
        *(["--refresh"] if refresh else []),
        nodes=_judged(loaded),
    )
    told = _outputs(stack)
    if as_json:
        show_json(_summary(loaded, done, told))
    else:
        show(loaded, done, told)
    return done.status


def _judged(stack: Stack) -> int:
    """How many nodes an update judges at the most: in a cluster the Deployments of pools."""
    if stack.in_cluster:
        return sum(len(tracks(stack, each)) for each in stack.pools)
    return len(stack.nodes)


def destroy(stack: STACK = DEFAULT_STACK, yes: YES = False) -> int:
    """Remove what the stack deployed from all its hosts."""
    stack_files.load(stack)
    if not yes and piped():
        raise Failed(f"nobody can confirm this here.\nTo go on without: fleet destroy -s {stack} --yes")
    return pulumi_command.run(stack, "destroy", *(["--yes", "--skip-preview"] if yes else [])).status


def rollback(stack: STACK = DEFAULT_STACK, yes: YES = False) -> int:
    """Put the settings of the last update that succeeded before this one back, and deploy them.

    The present stack file stays beside it, with the time in its name. Code and models that came with the
    project are not in the stack file: check out their former commit for those.
    """
    path = stack_files.existing(stack)
    former = _former(stack, path)
    kept = path.with_name(f"{path.name}.before-rollback-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    shutil.copy2(path, kept)
    path.write_text(former, encoding="utf-8")
    console().print(f"{path.name} has the settings of that update; the former file is {kept.name}")
    try:
        status = deploy(stack, yes)
    except BaseException:
        shutil.copy2(kept, path)
        raise
    if status:
        shutil.copy2(kept, path)
        console(errors=True).print(f"the roll-back did not succeed; {path.name} is as it was")
    return status


def env() -> int:
    """Print the variables with which plain `pulumi` commands see the same stacks: eval "$(fleet env)"."""
    for name, value in pulumi_command.defaults().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _former(stack: str, path: Path) -> str:
    """The stack file with the configuration of the last successful update that had another one.

    Raises Failed where there is none.
    """
    history: list[dict[str, Any]] = json.loads(pulumi_command.read(stack, "stack", "history", "--json"))
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    present = document.get("config", {})
    for update in history:
        if update.get("kind") != "update" or update.get("result") != "succeeded":
            continue
        config = _configuration(update.get("config", {}), present)
        if config and config != present:
            console().print(f"going back to the update of {update.get('startTime', 'an unknown time')}")
            return yaml.safe_dump({**document, "config": config}, sort_keys=False, allow_unicode=True)
    raise Failed(f"no successful update of the stack {stack} had other settings than its file has now")


def _configuration(recorded: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    """The configuration of an update, as a stack file writes it.

    Pulumi's history does not tell secrets: a section with one keeps the value of the present file. Raises
    Failed for one that the present file lacks.
    """
    config: dict[str, Any] = {}
    for key, entry in recorded.items():
        if entry.get("secret"):
            if key not in present:
                raise Failed(
                    f"{key} was a secret of that update, and the stack file no longer has it: set it first"
                )
            config[key] = present[key]
        else:
            config[key] = entry["objectValue"] if "objectValue" in entry else yaml.safe_load(entry["value"])
    return {key: config[key] for key in sorted(config, key=[*present, *config].index)}


def _outputs(stack: str) -> dict[str, Any]:
    """The stack's outputs; none, and the reason on the terminal, where Pulumi does not tell them."""
    try:
        return dict(json.loads(pulumi_command.read(stack, "stack", "output", "--json")))
    except Failed as error:
        console(errors=True).print(f"the summary has no addresses: {error}")
        return {}


def parts(stack: Stack, changes: dict[tuple[str, str], str]) -> dict[str, list[str]]:
    """What changed, by node, the gateway and `hosts`: a line for each resource, such as "replace: triton"."""
    found: dict[str, list[str]] = {}
    nodes = sorted((node.name for node in stack.nodes), key=len, reverse=True)
    for (kind, name), operation in changes.items():
        if kind.startswith(_QUIET):
            continue
        plain = name.partition("@")[0]
        node = next((each for each in nodes if plain == each or plain.startswith(f"{each}-")), None)
        if node is not None:
            place, part = node, plain.removeprefix(node).lstrip("-") or "node"
        elif plain.startswith(names.GATEWAY):
            place, part = names.GATEWAY, plain.removeprefix(names.GATEWAY).lstrip("-") or "container"
        else:
            place, part = "hosts", plain
        found.setdefault(place, []).append(f"{operation}: {part}")
    return found


def _summary(stack: Stack, done: pulumi_command.Done, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "stack": stack.name,
        "succeeded": done.status == 0,
        "seconds": round(done.seconds, 1),
        "changes": parts(stack, done.changes),
        "outputs": told,
    }


def show(stack: Stack, done: pulumi_command.Done, told: dict[str, Any]) -> None:
    """Prints what an update did: a row for each node and the gateway; `told` are the stack's outputs."""
    changed = parts(stack, done.changes)
    nodes: dict[str, Any] = told.get("nodes") or {}
    gateway: dict[str, Any] = told.get("gateway") or {}
    skipped = told.get("skipped") or []
    # In a pipe a row is a line.
    separator = "\n" if console().is_terminal else ", "

    def state(node: Node) -> str:
        if node.name in skipped:
            return "skipped: its host is away"
        if done.status:
            # The outputs are those of the update before this one.
            return "not known"
        return "drained" if node.drained else "serves"

    rows = [
        [
            node.name,
            str(node.host),
            state(node),
            str((nodes.get(node.name) or {}).get("http", "")),
            separator.join(changed.get(node.name, ["nothing"])),
        ]
        for node in stack.nodes
    ]
    rows.append(
        [
            names.GATEWAY,
            separator.join(str(each.host) for each in stack.gateway.each),
            "",
            str(gateway.get("http", "")),
            separator.join(changed.get(names.GATEWAY, ["nothing"])),
        ]
    )
    print()
    show_table(("part", "host", "state", "address", "changed"), rows)
    count = sum(map(len, changed.values()))
    outcome = "done" if done.status == 0 else f"failed with status {done.status}"
    print(f"\n{outcome} in {done.seconds:.0f} s, {count} {'change' if count == 1 else 'changes'}")
    print(f"status  fleet status -s {stack.name}")
    print(f"check   fleet doctor -s {stack.name}")
