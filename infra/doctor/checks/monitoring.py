"""The configurations of what watches a fleet, on the host of monitoring."""

from infra.doctor.answers import failing
from infra.doctor.findings import Outcome, warning, worst
from infra.doctor.sites.monitoring import MonitoringSite
from infra.update.written import monitoring


async def files(site: MonitoringSite) -> Outcome:
    """Whether they are as the last update wrote them; compares what the next update compares."""
    access = site.host.access
    repair = f"`pulumi up --stack {site.stack.name}` writes it again"
    with failing(repair):
        output = await access.output(monitoring.question(site.stack).command())
    found = monitoring.parsed(output)
    return worst(
        [
            warning(f"{part}: {reason} ({access.host})", repair)
            for part, reasons in found.items()
            for reason in reasons
        ],
        "the configurations are as they were written",
    )
