"""A client of the service: recordings over HTTP and gRPC, live audio over gRPC or a WebSocket.

`python -m inference_service.client transcribe FILE` (or `speech transcribe FILE`) is its command line.
"""

from inference_service.client.errors import ClientError
from inference_service.client.files import AudioFile
from inference_service.client.live import Update, transcribe_live
from inference_service.client.recording import Recording
from inference_service.client.upload import ask
