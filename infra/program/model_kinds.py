"""The warning of a preview that a fleet serves rules or a lexicon where a user may expect neural models."""

from __future__ import annotations

from inference_service.model_cards import GET_A_NEURAL_MODEL, RULES
from infra.models.cards import cards
from infra.paths import project_path
from infra.stack import Stack
from infra.triton_arguments import models_in_use


def warning(stack: Stack) -> str | None:
    """The warning; None where no model is known to be a rule or a lexicon.

    Models that are on the hosts already, or in an object store, are not known here; the doctor asks the
    nodes.
    """
    served = [node for node in stack.nodes if node.runtime == "triton"]
    here = stack.models.source == "sync" or any(node.embedded for node in served)
    if not served or not here:
        return None
    found = cards(project_path(stack.models.path), models_in_use(stack))
    rules = [each for each in found.values() if each.kind in RULES]
    if not rules:
        return None
    named = "; ".join(f"{each.name} is a {each.kind} ({each.caveat or 'it has no caveat'})" for each in rules)
    if stack.models.allow_rules is False:
        return f"{named}. Their tasks answer 501 (models.allowRules: false). {GET_A_NEURAL_MODEL}."
    return f"{named}. models.allowRules: false turns their tasks off. {GET_A_NEURAL_MODEL}."
