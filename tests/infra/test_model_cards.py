"""What models say of themselves, read from a folder here as Triton reads it."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from inference_service.tasks import ModelKind
from infra.models.cards import cards
from infra.models.pbtxt import parameters
from infra.paths import PROJECT

pytestmark = pytest.mark.fast

REPOSITORY = PROJECT / "model_repository"


def as_triton_reads_them(text: str) -> dict[str, str]:
    config = model_config_pb2.ModelConfig()
    text_format.Parse(text, config)
    return {key: value.string_value for key, value in config.parameters.items()}


@pytest.mark.parametrize(
    "text",
    [
        *(path.read_text() for path in sorted(REPOSITORY.glob("*/config.pbtxt"))),
        'parameters { key: "a" value { string_value: "one \\"two\\" \\303\\274" } }\nname: "x"',
        "parameters [{ key: 'a' value: { string_value: 'one'\n  # joined\n  \" two\" } }]",
        "\n".join(f'parameters {{ key: "a" value {{ string_value: "{value}" }} }}' for value in (1, 2)),
        'name: "x"',
    ],
)
def test_parameters_are_those_that_triton_reads(text: str) -> None:
    assert parameters(text) == as_triton_reads_them(text)


def test_the_cards_of_this_project_tell_rules_from_neural_models() -> None:
    kinds = {name: card.kind for name, card in cards(REPOSITORY).items()}
    assert kinds["asr"] is ModelKind.NEURAL
    assert (kinds["emotion"], kinds["emotion-text"]) == (ModelKind.RULE, ModelKind.LEXICON)
    assert kinds["synthesis"] is ModelKind.RULE


def test_a_model_without_a_card_is_unknown_and_one_without_a_configuration_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine" / "1").mkdir(parents=True)
    (tmp_path / "mine" / "config.pbtxt").write_text('backend: "onnxruntime"')
    found = cards(tmp_path, ["mine", "other"])
    assert {name: card.kind for name, card in found.items()} == {"mine": ModelKind.UNKNOWN}
