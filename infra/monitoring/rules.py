"""The alert rules: one file, for a Prometheus of the stack and for one of the user's."""

from infra.paths import PACKAGE

#: The file in the folder of Prometheus's configuration.
FILE = "alerts.yml"


def alerts() -> str:
    """The rules as Prometheus reads them."""
    return (PACKAGE / "examples" / "monitoring" / FILE).read_text(encoding="utf-8")
