"""Edge-LLM on a node: a session of the speech model, set up through the unit manager and ended again."""

import asyncio

from inference_service import diagnosis
from infra import names
from infra.doctor.advice import advice
from infra.doctor.answers import failing
from infra.doctor.findings import Outcome, ok, problem
from infra.doctor.sites.node import NodeSite


async def setup(node: NodeSite) -> Outcome:
    """Set up a session as the service does, and end it."""
    address, port = node.address(names.UNIT_MANAGER)
    manager = f"the unit manager at {address}:{port}"
    unreachable = f"{manager} cannot be reached: {{error}}"
    with failing(advice(unreachable, node.start(names.SERVICE)), unreachable):
        return await _setup(node, manager, address, port)


async def _setup(node: NodeSite, manager: str, address: str, port: int) -> Outcome:
    assert node.access is not None  # there are no embedded Edge-LLM nodes
    model = node.known_settings.ai.models.asr.model_name
    async with node.access.dial(address, port) as stream:
        await stream.send(diagnosis.setup_frame(diagnosis.new_request_id(), model))
        line = await stream.line()
        if not line:
            seen = f"{manager} closes its connections"
            return problem(seen, advice(seen, node.start(names.SERVICE)))
        try:
            reply = diagnosis.parse_reply(line)
        except diagnosis.ProtocolError as error:
            return problem(f"{manager}: {error}", "check that Edge-LLM's unit manager listens there")
        if reply.error is not None:
            code, message = reply.error.code, reply.error.message
            seen = f"{manager}: setup of {model}: edge-llm error (code {code}): {message}"
            if code == diagnosis.FORMAT_ERROR:
                return problem(seen, diagnosis.FRAMING_ADVICE)
            return problem(seen, advice(seen, "look at the llm node's log and model folder"))
        await stream.send(diagnosis.exit_frame(diagnosis.new_request_id(), reply.work_id))
        await asyncio.sleep(0.2)  # keep the connection open until the unit has answered the exit
    return ok(f"{manager} set up {model} as {reply.work_id}")
