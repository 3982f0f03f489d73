"""docs/doctor.md has every check and the messages of the service, so a message in a log can be found
there."""

import ast
from functools import cache
from pathlib import Path

import pytest

from infra.doctor.advice import advice
from infra.doctor.cluster.plan import ClusterPlan
from infra.doctor.plan import Plan
from infra.embedded.layout import Layout
from infra.paths import PROJECT
from infra.stack import parse
from tests.doctor.remedies import READ, RUN
from tests.kubernetes.stacks import BASE

pytestmark = pytest.mark.fast

GUIDE = (PROJECT / "docs" / "doctor.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text() for path in sorted((PROJECT / "inference_service").rglob("*.py")))

STACK = {
    "nodes": [
        {"name": "gpu-1", "host": "ssh://root@192.0.2.1"},
        {"name": "edge-1", "host": "ssh://root@192.0.2.2:2222", "runtime": "edge-llm"},
        {"name": "local", "host": "unix:///var/run/docker.sock"},
    ],
    "service": {"image": "registry.example.com/service:1"},
    "edgeLlm": {"unitManager": {"image": "unit-manager:1"}, "llmNode": {"image": "llm-node:1"}},
    "tls": {"nodes": True},
    "monitoring": {},
    "gateway": {
        "hosts": ["ssh://root@192.0.2.3", "ssh://root@192.0.2.4"],
        "virtualAddress": {"address": "192.0.2.100/24"},
        "tls": {"certificate": "/tls/a.pem", "key": "/tls/a.key"},
    },
}

# Messages of the service's log and of /api/v1/ai/health; each text also occurs in the service's code.
SAID = [
    "is not ready: ",
    "it is not in the model repository",
    "is not there; Triton has ",
    "has datatype ",
    "has shape ",
    ", which the service does not send",
    " labels for ",
    "cannot be reached: ",
    "has no llm node",
    "did not answer",
    "an API key is needed",
    "the API key is not one that is accepted here",
]


def names(tmp_path: Path) -> set[str]:
    folder = tmp_path / "sessions"
    folder.mkdir()
    checks = Plan(parse(STACK), folder, Layout(tmp_path / "state"), None).checks
    return {check.name for check in checks}


def test_every_check_is_in_the_guide(tmp_path: Path) -> None:
    for name in names(tmp_path):
        general = "… container" if name.endswith(" container") else name
        general = "upstream gpu-2" if name.startswith("upstream ") else general
        assert f"| `{general}` |" in GUIDE, name


#: A stack that has every check of a cluster.
CLUSTER = {
    "kubernetes": {
        "tls": {"secret": "ai-tls"},
        "monitoring": {"by": "operator"},
    },
    "nodes": [{"name": "l4", "autoscale": {"max": 2}}],
}


def test_every_check_of_a_cluster_is_in_the_guide(tmp_path: Path) -> None:
    checks = ClusterPlan(parse({**BASE, **CLUSTER}, "prod"), tmp_path).checks
    assert {each.where[0] for each in checks} == {"cluster", "l4", "gateway"}
    for each in checks:
        assert f"| `{each.name}` |" in GUIDE, each.name


@pytest.mark.parametrize("words", SAID)
def test_messages_of_the_service_can_be_found_in_the_guide(words: str) -> None:
    assert words in SOURCES, "the service says it otherwise now"
    assert words.strip(" ,") in GUIDE


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("edge-llm error (code -2): json format error", "ai.request.max_single_delta_len"),
        ("the unit manager at unit-manager:19001 has no llm node: it is not running", "start the llm node"),
        ("the unit manager at unit-manager:19001 cannot be reached: refused", "start the unit manager"),
        ("model asr is not ready: it is not in the model repository", "models.path"),
        ("model asr is not ready: no weights", "restart Triton"),
        ("model x is not ready: instance group x_0 has kind KIND_GPU but no GPUs are available", "KIND_AUTO"),
        ("model emotion is not ready: loading", "builds engines"),
        ("model emotion is not ready: unable to find backend library for backend 'tensorrt'", "triton.image"),
        ("model emotion is not ready: The engine plan file is not compatible", "TensorRT of Triton's image"),
        ("model emotion: input 'audio' has datatype INT16, expected FP32", "config.pbtxt"),
        ("Triton is not ready: refused (Triton at triton:9000)", "ai.runtime.triton.endpoint"),
        ("HTTP 401: the API key is not one that is accepted here", "GPU_INFERENCE_API_KEY"),
        ("the API key is not one that is accepted here", "GPU_INFERENCE_API_KEY"),
        ("missing or wrong API key", "GPU_INFERENCE_API_KEY"),
        ("HTTP 503: no node can take the request now", "restore a node"),
        ("task full", "max_sessions"),
        ("the unit manager at unit-manager:19001 did not answer", "start the unit manager"),
        ("Triton at triton:8001 says that it is not ready", "see Triton's log"),
        ("model x: needs the input y, which the service does not send", "config.pbtxt"),
        ("model synthesis: input 'audio_input' has shape [64, -1], expected [80, -1]", "input_type"),
        ("model emotion: 6 labels for 7 logits in 'logits'", "one label a logit"),
    ],
)
def test_the_remedy_depends_on_the_message(message: str, remedy: str) -> None:
    assert remedy in advice(message, "nothing is known of it")


def test_an_unknown_message_gets_the_remedy_of_its_check() -> None:
    assert advice("something new", "look at the log") == "look at the log"


def remedies() -> list[tuple[str, str]]:
    """Check and message of each row of the guide that has a remedy; messages of the linter have no check."""
    found, check, columns = [], "", 0
    for line in GUIDE.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if line.startswith("|---") or not line.startswith("|"):
            continue
        if cells[0] in ("check", "message"):
            columns, check = len(cells), ""
        elif columns == 3:
            check = cells[0] or check
            found += [(check, cells[1])] if cells[1] else []
        elif columns == 2:
            found.append(("", cells[0]))
    return found


def test_each_remedy_of_the_guide_names_its_test() -> None:
    """A remedy without a row here is not run, and may not work."""
    rows = remedies()
    assert len(rows) > 60
    for check, message in rows:
        named = [row for row in (*RUN, *READ) if row[0] == check and message.startswith(row[1])]
        longest = {row for row in named if len(row[1]) == max(len(each[1]) for each in named)}
        assert len(longest) == 1, f"docs/doctor.md: {check}: {message}; tests/doctor/remedies.py: {named}"
    for check, begin in (*RUN, *READ):
        assert any(check == row[0] and row[1].startswith(begin) for row in rows), (check, begin)


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("test", sorted({*RUN.values(), *READ.values()}))
def test_the_tests_of_the_remedies_exist(test: str) -> None:
    file, _, name = test.partition("::")
    assert name in functions(file), test


@pytest.mark.parametrize("test", sorted(set(RUN.values())))
def test_the_tests_of_commands_run_them(test: str) -> None:
    file, _, name = test.partition("::")
    [function] = [
        each for each in ast.parse((PROJECT / file).read_text()).body if getattr(each, "name", None) == name
    ]
    called = {
        node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    }
    # A setting of the stack file is a remedy too: the test sets it and updates.
    assert called & {"run_remedy", "up"}, f"{name} runs no remedy"
