"""The processes of an embedded node or gateway, their ports and drift, and the disk of this computer."""

import asyncio
import shutil
from collections.abc import Mapping

from infra import names
from infra.doctor.answers import failing
from infra.doctor.checks.drift import setting_differences
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.sites.embedded_node import EmbeddedNodeSite
from infra.embedded.environment import check_ports
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.node import node_programs
from infra.embedded.program import MARK
from infra.embedded.supervisor import Supervisor, SupervisorError

_DISK_PROBLEM_BYTES = 1 << 30


async def process(layout: Layout, name: str) -> Outcome:
    """Whether the supervisor keeps the process of that name running."""

    def check() -> Outcome:
        supervisor = Supervisor(layout)
        if not supervisor.running():
            return problem("the stack is not running: there is no supervisor", layout.make("up"))
        try:
            state = supervisor.state(name)
        except SupervisorError as error:
            return problem(f"{error}", layout.make("up"))
        # STARTING is the state of a process in its first second.
        if state.name in ("RUNNING", "STARTING") and state.pid:
            return ok(f"{name}: {state.detail or f'pid {state.pid}, just started'}")
        log = supervisor.last_lines(name, 5)
        return problem(f"{name}: {state.name}, {state.detail}; its log ends:\n{log}", layout.make("up"))

    return await asyncio.to_thread(check)


async def ports(layout: Layout, declared: Mapping[str, int]) -> Outcome:
    """Whether each port is free, or held by the stack's own process. `declared`: stack key -> port."""

    def check() -> Outcome:
        outcomes = []
        for key, port in declared.items():
            try:
                check_ports(layout, {key: port})
            except EmbeddedError as error:
                seen, _, remedy = str(error).partition("; ")
                outcomes.append(problem(seen, remedy))
        return worst(outcomes, ", ".join(str(port) for port in declared.values()))

    return await asyncio.to_thread(check)


async def disk(site: EmbeddedNodeSite) -> Outcome:
    """The free space for logs and models on this computer."""
    folder = site.layout.root
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    seen = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < _DISK_PROBLEM_BYTES:
        return problem(seen, f"free space there: du -xh --max-depth=2 {existing} shows what is large")
    return ok(seen)


async def drift(site: EmbeddedNodeSite) -> Outcome:
    """Whether each process is the one that an update would start now."""
    try:
        programs = await asyncio.to_thread(node_programs, site.layout, site.declaration)
    except EmbeddedError as error:
        return problem(str(error), "make setup")
    differences = []
    for program in programs:
        try:
            started = site.launched(program.name)
        except OSError:
            continue  # it was never started, which another check reports
        environment = {key: value for key, value in started["environment"].items() if key != MARK}
        if started["command"] != list(program.command) or environment != dict(program.environment):
            differences.append(f"{program.name} was started with other settings than declared")
        if started["revision"] != program.revision:
            differences.append(
                f"{program.name} was started from code, models or settings that have changed since"
            )
    repair = site.layout.make("up")
    with failing(repair):
        in_use = (await site.in_use()).keys
    # The layout decides this folder when the node starts.
    in_use.get("server", {}).pop("runtime_dir", None)
    service = site.program(names.SERVICE)
    differences += [f"{service}: {each}" for each in setting_differences(site.declaration.service, in_use)]
    return worst([warning(each, repair) for each in differences], "processes are as declared")
