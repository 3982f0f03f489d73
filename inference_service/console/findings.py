"""What the console finds wrong with a node by comparing it with the others, without SSH. Pure.

`fleet doctor` checks much more, on the hosts themselves.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from inference_service.console.watched import Watched

#: Seconds. Logs and certificates of hosts whose clocks differ by more mislead.
_CLOCK_SECONDS = 5.0
_HOUR = 3600.0


def of(name: str, nodes: Mapping[str, Watched], now: float) -> list[str]:
    """The findings of the node of that name among all nodes, the worst first; `now` is in Unix seconds."""
    node = nodes[name]
    found = []
    if node.health in ("down", "unhealthy") and node.reason:
        found.append(f"The node is {node.health}: {node.reason}.")
    lost = [when for when in node.lost if now - when <= _HOUR]
    if lost:
        times = "once" if len(lost) == 1 else f"{len(lost)} times"
        found.append(f"It stopped answering {times} in the last hour. Its log may say why.")
    if node.clock is not None and abs(node.clock) > _CLOCK_SECONDS:
        apart = "ahead of" if node.clock > 0 else "behind"
        found.append(f"Its clock is {abs(node.clock):.0f} s {apart} the gateway's host.")
    found += _version(name, nodes)
    found += _models(name, nodes)
    return found


def _version(name: str, nodes: Mapping[str, Watched]) -> list[str]:
    versions = {each: str(info["version"]) for each, info in _described(nodes) if info.get("version")}
    usual = _usual(list(versions.values()))
    if name not in versions or usual is None or versions[name] == usual:
        return []
    return [f"It runs version {versions[name]}, most nodes run {usual}."]


def _models(name: str, nodes: Mapping[str, Watched]) -> list[str]:
    """Of each task, whether the node has the version of the model that most nodes with that model have."""
    found = []
    described = dict(_described(nodes))
    for task, card in (described.get(name, {}).get("model_cards") or {}).items():
        cards = [(info.get("model_cards") or {}).get(task) or {} for info in described.values()]
        same = [str(each.get("version")) for each in cards if each.get("name") == card.get("name")]
        usual, own = _usual([each for each in same if each != "None"]), card.get("version")
        if own and usual is not None and own != usual:
            found.append(f"Its {task} model {card.get('name')} is version {own}, most nodes have {usual}.")
    return found


def _described(nodes: Mapping[str, Watched]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, each.info) for name, each in nodes.items() if each.info is not None]


def _usual(values: Sequence[str]) -> str | None:
    """What more than half of them are; None where there is no such value."""
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted and counted[0][1] * 2 > len(values) else None
