"""The checks of a stack: the rows of the tables, for each of its hosts, its nodes and its gateway."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from infra import names
from infra.doctor import tables
from infra.doctor.checks import gateway
from infra.doctor.checks.docker_node import container_state
from infra.doctor.host_access import HostAccess
from infra.doctor.runner import Check
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.doctor.sites.embedded_node import EmbeddedNodeSite
from infra.doctor.sites.gateway import EmbeddedGatewaySite, ExaminedGateway, RemoteGatewaySite
from infra.doctor.sites.host import ExaminedHost
from infra.doctor.sites.node import ExaminedNode
from infra.doctor.tables import Row, S, Subject
from infra.embedded.declarations import gateway_declaration, node_declaration
from infra.embedded.layout import Layout
from infra.gateway.entrance import upstreams
from infra.image_references import ImageReferences, sources
from infra.stack import Host, Node, Stack
from infra.update import preflight


class Plan:
    """The checks of a whole stack, and the connections that they use."""

    def __init__(self, stack: Stack, folder: Path, layout: Layout, api_key: str | None) -> None:
        """`folder` is private and for the SSH sessions; `layout` has the files of the embedded stack.

        Raises ContextError without the build context of an image.
        """
        self.checks: list[Check] = []
        self._stack, self._folder, self._layout, self._api_key = stack, folder, layout, api_key
        self._images = ImageReferences(stack)
        #: Each subject's checks by key: of hosts, of nodes by name, and of the gateway.
        self._known: dict[Host | str, dict[str, Check]] = {}
        self._hosts: dict[Host, ExaminedHost] = {}
        self._fleet: list[ExaminedHost] = []
        for requirements in preflight.checks(stack):
            self._add_host(requirements)
        for host, checks in self._hosts.items():
            self._add(host, checks, tables.CLOCK)
        self._nodes = [self._add_node(node) for node in stack.nodes]
        self._add_gateway()

    async def close(self) -> None:
        """End the SSH sessions."""
        for host in self._hosts.values():
            await host.access.close()

    def _add(self, subject_key: Host | str, subject: S, rows: Iterable[Row[S]]) -> None:
        known = self._known[subject_key]
        for row in rows:
            if not row.when(subject):
                continue
            after = [known[key] for key in row.after if key in known]
            after += [
                checks[key] for checks in self._known.values() for key in row.after_all if key in checks
            ]
            check = Check(
                subject.where,
                row.name or row.key,
                row.label if isinstance(row.label, str) else row.label(subject),
                partial(row.ask, subject),
                row.seconds,
                needs=[known[key] for key in row.needs if key in known],
                after=after,
            )
            known[row.key] = check
            self.checks.append(check)

    def _add_host(self, requirements: preflight.HostCheck) -> None:
        host = requirements.host
        nodes = [node for node in self._stack.nodes if node.host == host]
        access = HostAccess(host, self._stack.ssh, self._folder)
        self._hosts[host] = ExaminedHost(access, requirements, self._stack, nodes, self._fleet)
        if self._hosts[host].remote():
            self._fleet.append(self._hosts[host])
        self._known[host] = {}
        self._add(host, self._hosts[host], tables.HOST)

    def _add_node(self, node: Node) -> ExaminedNode:
        site: EmbeddedNodeSite | DockerNodeSite
        # A node's checks may need those of its host.
        self._known[node.name] = dict(self._known.get(node.host, {}))
        if node.embedded:
            site = EmbeddedNodeSite(node, node_declaration(self._stack, node), self._layout)
            for program in site.programs:
                part = program.removeprefix(f"{node.name}-")
                self._add(node.name, site, [tables.process_row(self._layout, program, part)])
            self._add(node.name, site, [tables.ports_row(self._layout, "ports", site.declaration.ports)])
            self._add(node.name, site, tables.EMBEDDED_NODE)
        else:
            site = DockerNodeSite(self._stack, node, self._hosts[node.host], self._images)
            for part in sources(self._stack, node):
                site.image(part)  # a missing build context is a mistake in the stack file
                self._add(node.name, site, [tables.container_row(part)])
            self._add(node.name, site, tables.DOCKER_NODE)
        examined = ExaminedNode(site, self._api_key, models_on_disk=not self._stack.models.object_store)
        self._add(node.name, examined, tables.NODE)
        return examined

    def _add_gateway(self) -> None:
        stack, layout = self._stack, self._layout
        site: EmbeddedGatewaySite | RemoteGatewaySite
        rows: list[Row[Subject]] = []
        if stack.gateway.mode == "embedded":
            declaration = gateway_declaration(stack)
            site = EmbeddedGatewaySite(declaration, layout)
            rows.append(tables.process_row(layout, names.GATEWAY, "nginx"))
            rows.append(tables.ports_row(layout, "gateway", declaration.ports))
        else:
            host = self._hosts[stack.gateway.host]
            site = RemoteGatewaySite(stack, host.access)
            if stack.gateway.mode == "container":
                container = names.gateway_container(stack)
                rows.append(
                    Row(
                        "nginx runs",
                        f"docker inspect {container}",
                        lambda _: container_state(host, container, stack),
                        needs=("containers",),
                        name="nginx container",
                    )
                )
        serving = [self._known[node.name]["health"] for node in stack.nodes if not node.drained]
        examined = ExaminedGateway(stack, site, self._nodes, serving, self._api_key)
        self._known[names.GATEWAY] = dict(self._known.get(stack.gateway.host, {}))
        self._add(names.GATEWAY, examined, rows)
        self._add(names.GATEWAY, examined, tables.GATEWAY)
        self._add_upstreams(examined)
        self._add(names.GATEWAY, examined, tables.ENTRANCE)

    def _add_upstreams(self, examined: ExaminedGateway) -> None:
        """A check of the way from the gateway's host to each node."""
        for server in upstreams(self._stack):
            of_node = self._known[server.name]
            earlier = [of_node[key] for key in ("ssh", "docker", "service runs", "service") if key in of_node]
            check = Check(
                (names.GATEWAY, server.name),
                f"upstream {server.name}",
                f"GET http://{server.http_address}/health from the gateway's host",
                partial(gateway.upstream, examined, server, earlier),
                needs=[check for key, check in self._known[names.GATEWAY].items() if key == "ssh"],
                after=earlier,
            )
            of_node["upstream"] = check
            self.checks.append(check)
