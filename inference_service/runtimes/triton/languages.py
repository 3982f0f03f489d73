"""The languages of a speech model, which its configuration cannot name: they depend on the weights."""

import msgspec
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from inference_service.errors import ServiceError
from inference_service.runtimes.triton.answers import Answer
from inference_service.runtimes.triton.client import TritonClient
from inference_service.runtimes.triton.contract import Interface
from inference_service.settings import AsrModelSettings

#: The output in which a speech model names the codes of its languages, as a JSON list.
OUTPUT = "languages"

#: Seconds: the model answers a request for this output alone at once.
_TIME_LIMIT = 1.0


async def languages_of(
    name: str, interface: Interface, asr: AsrModelSettings, client: TritonClient
) -> list[str] | None:
    """The codes of the languages that the model called `name` knows. None where it does not say them."""
    if OUTPUT not in interface.outputs or asr.input_name not in interface.inputs:
        return None
    request = pb.ModelInferRequest(model_name=name)
    silence = np.zeros(1, np.float32)
    request.inputs.add(
        name=asr.input_name, datatype="FP32", shape=interface.shape_to_send(asr.input_name, (1,))
    )
    request.raw_input_contents.append(silence.tobytes())
    request.outputs.add(name=OUTPUT)
    try:
        answer = Answer(await client.infer(request, _TIME_LIMIT)).text(OUTPUT)
        return msgspec.json.decode(answer, type=list[str])
    except (ServiceError, msgspec.DecodeError):
        return None
