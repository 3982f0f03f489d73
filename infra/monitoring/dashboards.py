"""Grafana's dashboards of a fleet, which `scripts/dashboards` writes."""

from infra.paths import PACKAGE

#: One file of JSON for each, also for a Grafana that is already there.
FOLDER = PACKAGE / "examples" / "monitoring" / "dashboards"


def dashboards() -> dict[str, str]:
    """The dashboards as JSON, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}
