"""Puts nodes that return back behind the embedded gateway, before the first node changes.

The declared configuration is applied after the last node has changed. Until then a node that was drained, or
away in the last update, would get no traffic while the others change.
"""

import re

import msgspec

from infra import names
from infra.declaration import Declaration
from infra.embedded.gateway import GATEWAY, reload_nginx
from infra.embedded.layout import Layout
from infra.embedded.program import write_private
from infra.embedded.supervisor import Supervisor
from infra.health_route import unready
from infra.node_health import NodeAddress, problems

_ANSWER_SECONDS = 3
# The end of a server's line in nginx/macros.j2.
_WITHOUT_TRAFFIC = re.compile(r" down; # (\S+)$", re.MULTILINE)


class Returning(Declaration, frozen=True, kw_only=True):
    """The nodes that get traffic: those on Docker hosts, and the health routes of embedded ones by name."""

    nodes: tuple[NodeAddress, ...] = ()
    embedded: dict[str, str] = msgspec.field(default_factory=dict)


def put_back(layout: Layout, declared: Returning) -> list[str]:
    """Gives traffic to nodes that answer and have none, and reloads nginx; returns their names."""
    conf = layout.gateway / names.NGINX_CONF
    text = conf.read_text() if conf.exists() else ""
    down = set(_WITHOUT_TRAFFIC.findall(text))
    near = [node for node in declared.nodes if node.node in down]
    silent = problems(near, _ANSWER_SECONDS).keys()
    back = [node.node for node in near if node.node not in silent]
    back += [name for name, url in declared.embedded.items() if name in down and unready(url) is None]
    if back:
        write_private(conf, _WITHOUT_TRAFFIC.sub(lambda at: f"; # {at[1]}" if at[1] in back else at[0], text))
        supervisor = Supervisor(layout)
        if supervisor.is_declared(GATEWAY) and supervisor.running():
            reload_nginx(supervisor)
    return back
