"""The list of the checks of a stack, in the order of the findings, and what each of them waits for."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from infra.doctor.findings import Outcome
from infra.doctor.runner import SECONDS, Check
from infra.doctor.sites.gateway import GatewaySite
from infra.doctor.sites.host import HostSite
from infra.doctor.sites.monitoring import MonitoringSite
from infra.doctor.sites.node import NodeSite
from infra.doctor.sites.virtual_address import VirtualAddressSite

Subject = HostSite | NodeSite | GatewaySite | VirtualAddressSite | MonitoringSite
S = TypeVar("S", bound=Subject)


class CheckList:
    """Checks of subjects; a check refers to others of its subject by their keys."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        #: Each subject's checks by key; of a node or a gateway on a host, the host's too.
        self._known: dict[Subject, dict[str, Check]] = {}

    def _add(
        self,
        subject: S,
        key: str,
        checked: str,
        ask: Callable[[S], Awaitable[Outcome]],
        needs: Sequence[str] = (),
        after: Sequence[str] = (),
        *,
        also_after: Sequence[Check] = (),
        where: tuple[str, ...] = (),
        name: str = "",
        seconds: float = SECONDS,
    ) -> None:
        """Add a check of a host, node or gateway; see `Check`.

        `key` is its name for other checks, and in findings unless `name` is set. `needs` and `after` are keys
        of the same subject or of its host; those of checks that the stack does not have are passed over.
        """
        known = self._known[subject]
        needed = [known[each] for each in needs if each in known]
        earlier = [*(known[each] for each in after if each in known), *also_after]
        asked = partial(ask, subject)
        check = Check(where or subject.where, name or key, checked, asked, seconds, needed, earlier)
        known[key] = check
        self.checks.append(check)

    def _everywhere(self, *keys: str) -> list[Check]:
        """The checks with these keys of all hosts, nodes and gateways so far."""
        return [checks[key] for checks in self._known.values() for key in keys if key in checks]
