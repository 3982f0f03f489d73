"""The metrics that expressions of alerts and dashboards name."""

from __future__ import annotations

import re

from infra.monitoring.dashboards import dashboards


def named(expression: str) -> set[str]:
    """The metrics in an expression: what has labels or a range, or stands alone, and is no function."""
    without_texts = re.sub(r'"[^"]*"', '""', expression)
    without_labels = re.sub(r"\{[^}]*\}", "", without_texts)
    without_labels = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", "", without_labels)
    words = re.findall(r"(?<![\w:])([A-Za-z_]\w*)\b(?!\s*\()", re.sub(r"\[[^\]]*\]", "", without_labels))
    return set(words) - {"or", "and", "unless", "bool", "by", "on"}


def of_dashboards(prefix: str) -> set[str]:
    """The metrics in all dashboards whose names begin so."""
    texts = re.findall(r'"expr": "((?:[^"\\]|\\.)*)"', "".join(dashboards().values()))
    found = {name for text in texts for name in named(text.replace('\\"', '"'))}
    return {name for name in found if name.startswith(prefix)}
