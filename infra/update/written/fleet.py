"""Reads what steps wrote on all hosts of a stack at the same time."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from infra.connection import portable
from infra.gateway.plan import gateway_plan
from infra.models.files import versions
from infra.paths import project_path
from infra.stack import EmbeddedHost, Host, Node, Stack
from infra.update.questions import Answers, Question, ask
from infra.update.written import gateway, models, monitoring
from infra.update.written.models import ModelDifferences


@dataclass(frozen=True)
class Written:
    """The differences of the fleet: of the models by node, of the gateways' files by host, and of the
    configurations of monitoring by part. `unread` are the hosts that did not answer, with the reasons."""

    models: Mapping[str, ModelDifferences] = field(default_factory=dict)
    gateways: Mapping[Host, tuple[str, ...]] = field(default_factory=dict)
    monitoring: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: Mapping[Host, str] = field(default_factory=dict)

    @property
    def without_folders(self) -> frozenset[str]:
        """The nodes whose containers must be replaced, because somebody removed the folders of models."""
        return frozenset(name for name, each in self.models.items() if each.gone)

    def of_node(self, name: str) -> ModelDifferences:
        """The differences of a node's models."""
        return self.models.get(name, ModelDifferences())

    def of_gateway(self, host: Host) -> tuple[str, ...]:
        """The differences of the files of the gateway on this host."""
        return self.gateways.get(host, ())

    def lines(self) -> list[str]:
        """All differences for people, one a line."""
        return [
            *(f"node {name}: {reason}" for name, each in self.models.items() for reason in each.reasons),
            *(f"gateway ({host}): {reason}" for host, each in self.gateways.items() for reason in each),
            *(f"{part}: {reason}" for part, each in self.monitoring.items() for reason in each),
        ]


def questions(stack: Stack, away: Set[Host] = frozenset()) -> dict[Host, list[Question]]:
    """What to ask each host but those that are `away`."""
    asked: dict[Host, list[Question]] = {}
    for host, nodes in _nodes(stack).items():
        if host not in away:
            asked.setdefault(host, []).append(models.question(stack, nodes))
    names_away = {node.name for node in stack.nodes if node.host in away}
    for each in stack.gateways:
        host = each.gateway.host
        if not isinstance(host, EmbeddedHost) and host not in away:
            configuration = gateway_plan(each, names_away).configuration
            assert configuration is not None
            asked.setdefault(host, []).append(gateway.question(configuration))
    if (watching := stack.monitoring_host) is not None and watching not in away:
        asked.setdefault(watching, []).append(monitoring.question(stack))
    return asked


def written(stack: Stack, answers: Answers) -> Written:
    """The differences in the answers, which may go on with those to other questions."""
    nodes = _nodes(stack)
    known = versions(project_path(stack.models.path)) if nodes else {}
    found: dict[str, ModelDifferences] = {}
    files: dict[Host, tuple[str, ...]] = {}
    watching: dict[str, tuple[str, ...]] = {}
    gateways = {each.gateway.host for each in stack.gateways}
    for host, said in answers.said.items():
        rest = list(said)
        if host in nodes:
            differences = models.parsed(rest.pop(0), known)
            found |= {node: each for node, each in differences.items() if each.reasons}
        if host in gateways and (lines := rest.pop(0).splitlines()):
            files[host] = tuple(lines)
        if host == stack.monitoring_host:
            watching = monitoring.parsed(rest.pop(0))
    return Written(found, files, watching, answers.silent)


def read(stack: Stack, seconds: float) -> Written:
    """Asks all hosts. Each takes at most so many seconds."""
    return written(stack, ask(questions(stack), portable(stack.ssh), seconds))


def _nodes(stack: Stack) -> dict[Host, list[Node]]:
    """The nodes that updates copy models to, by host."""
    nodes: dict[Host, list[Node]] = {}
    for node in stack.nodes:
        if models.copied(stack, node):
            nodes.setdefault(node.host, []).append(node)
    return nodes
