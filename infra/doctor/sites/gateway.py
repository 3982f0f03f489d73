"""The gateway under examination: its nginx's configuration and log, and the commands that repair it."""

import datetime
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import SecretStr

from infra import names
from infra.doctor.host_access import HostAccess, NoAnswer
from infra.doctor.runner import Check
from infra.doctor.sites.host import HostSite
from infra.doctor.sites.node import NodeSite
from infra.doctor.web import HttpServer
from infra.embedded.declarations import gateway_declaration
from infra.embedded.gateway import render_gateway
from infra.embedded.layout import Layout
from infra.gateway.configuration import ExistingSite
from infra.gateway.plan import gateway_plan
from infra.gateway.render import FAILURE_SECONDS
from infra.stack import Stack

#: How long nginx avoids a node that failed (`fail_timeout` of its upstreams).
AVOIDED_SECONDS = FAILURE_SECONDS
_LOG_BYTES = 256 * 1024
_NGINX_TIME = "%Y/%m/%d %H:%M:%S"
#: Prints the host's time, then the end of the error log that nginx's configuration names.
_EXISTING_LOG = """
date '+%Y/%m/%d %H:%M:%S'
log=$({nginx} -T 2>/dev/null | sed -n 's/^ *error_log  *\\([^ ;]*\\).*/\\1/p' | head -n 1)
tail -c 262144 "${{log:-/var/log/nginx/error.log}}"
"""


class GatewaySite(ABC):
    """The gateway's nginx, on a host or a process on this computer; its entrance, and the nodes behind it."""

    #: The access to the gateway's host; None for a process on this computer.
    access: HostAccess | None = None
    #: The command that restores the declared configuration.
    repair: str
    #: The command that makes nginx read its configuration and its certificate again.
    reload: str
    #: The command that shows nginx's log.
    log: str
    #: The name that clients use, which the certificate is for.
    public_host: str
    where: tuple[str, ...]
    #: The nodes behind the gateway, and the health checks of those that get traffic.
    nodes: Sequence[NodeSite] = ()
    serving: Sequence[Check] = ()

    def __init__(self, stack: Stack, api_key: str | None = None) -> None:
        """`api_key` is the one given to the doctor; without it, the nodes' settings have one."""
        self.stack = stack
        gateway = stack.gateway
        self.where = (gateway.name,)
        self.public_host = gateway.public_host
        self.server = HttpServer(gateway.public_host, gateway.http, tls=gateway.tls is not None)
        self.grpc_address = f"{gateway.public_host}:{gateway.grpc}"
        self._given_key = api_key

    @abstractmethod
    async def configuration(self) -> tuple[str, str]:
        """The rendered file as it is on the host, and as the stack declares it. Raises NoAnswer."""

    @abstractmethod
    async def recent_log(self) -> str:
        """The log of the last AVOIDED_SECONDS. Raises NoAnswer where it cannot be read."""

    @property
    def key(self) -> str | None:
        """An API key that the gateway accepts; None where the nodes require none."""
        return self._given_key or next((key for node in self.nodes if (key := node.key)), None)


class RemoteGatewaySite(GatewaySite):
    """An nginx on a host: the stack's own container, or an existing one."""

    def __init__(self, stack: Stack, api_key: str | None, host: HostSite) -> None:
        super().__init__(stack, api_key)
        self._host = host
        self.access = host.access
        # An update reads the file before it declares anything, and writes it again where it differs.
        self.repair = f"`pulumi up --stack {stack.name}`"
        if stack.gateway.mode == "existing":
            self.log = "look at that nginx's error log"
            self.reload = host.typed(f"{stack.gateway.nginx} -s reload")
        else:
            container = names.gateway_container(stack)
            self.log = host.typed(f"docker logs --tail 50 {container}")
            self.reload = host.typed(
                f"docker exec {container} nginx -c {names.mounted_nginx_conf()} -s reload"
            )

    async def configuration(self) -> tuple[str, str]:
        """For the stack's own container nginx.conf only: the file with the API keys is not read."""
        stack = self.stack
        if "apiKeys" in stack.encrypted:
            # The doctor cannot decrypt keys, on which the name of the folder depends.
            stack = stack.model_copy(update={"api_keys": [SecretStr("not-known-here")]})
        declared = gateway_plan(stack).configuration
        assert declared is not None
        current = f"{declared.folder}/{names.CURRENT}/{names.NGINX_CONF}"
        file = declared.file if isinstance(declared, ExistingSite) else current
        text = await self._host.access.output(f"cat {shlex.quote(file)}")
        if isinstance(declared, ExistingSite):
            return text, declared.servers
        return _without_revision(text), _without_revision(declared.files[names.NGINX_CONF])

    async def recent_log(self) -> str:
        """Docker's log; for an existing nginx, the log file that its configuration names."""
        if self.stack.gateway.mode == "existing":
            script = _EXISTING_LOG.format(nginx=self.stack.gateway.nginx)
            output = await self._host.access.output(script, "nginx's error log cannot be read: ")
            now, _, log = output.partition("\n")
            return recent(log, datetime.datetime.strptime(now, _NGINX_TIME))
        container = shlex.quote(names.gateway_container(self.stack))
        result = await self._host.access.run(
            f"docker logs --since {AVOIDED_SECONDS}s {container} 2>&1 >/dev/null"
        )
        return result.stdout


class EmbeddedGatewaySite(GatewaySite):
    """The nginx of the embedded stack."""

    def __init__(self, stack: Stack, api_key: str | None, layout: Layout) -> None:
        super().__init__(stack, api_key)
        self.repair = layout.make("up")
        self.reload = f"kill -HUP $(cat {layout.gateway}/nginx.pid)"
        self.log = f"tail -n 50 {layout.log(names.GATEWAY)}"
        self.declaration = gateway_declaration(stack)
        self._layout = layout

    async def configuration(self) -> tuple[str, str]:
        try:
            text = (self._layout.gateway / names.NGINX_CONF).read_text()
        except OSError as error:
            raise NoAnswer(f"{error.filename}: {error.strerror}") from None
        return text, render_gateway(self._layout, self.declaration)[0]

    async def recent_log(self) -> str:
        try:
            with self._layout.log(names.GATEWAY).open("rb") as log:
                log.seek(max(0, log.seek(0, 2) - _LOG_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return recent(text, datetime.datetime.now())


def _without_revision(configuration: str) -> str:
    folder = names.CONFIGURATIONS_MOUNT
    return re.sub(rf"{folder}/[0-9a-f]+/", f"{folder}/revision/", configuration)


def recent(log: str, now: datetime.datetime) -> str:
    """The lines of an nginx error log that are not older than nginx's memory of a failure."""
    since = (now - datetime.timedelta(seconds=AVOIDED_SECONDS)).strftime(_NGINX_TIME)
    return "\n".join(line for line in log.splitlines() if line[:19] >= since)
