"""The parts of the service that the doctor uses; the rest of the service may change without it.

`infra.doctor` imports nothing else of the service, except the settings and the addresses.
"""

from inference_service.errors import RuntimeFailed
from inference_service.runtimes.edge_llm.connection import (
    FORMAT_ERROR,
    FRAMING_ADVICE,
    LOST_FRAMES_ADVICE,
    new_request_id,
)
from inference_service.runtimes.edge_llm.frames import ProtocolError, exit_frame, parse_reply, setup_frame
from inference_service.runtimes.triton.client import without_traceback
from inference_service.runtimes.triton.contract import Contract, Interface, Tensor, contracts, mismatches
from inference_service.runtimes.triton.labels import model_labels
