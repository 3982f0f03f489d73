"""Live audio: sessions that turn chunks into results, for every entrance."""

from inference_service.streaming.chunk import Chunk, StreamResult
from inference_service.streaming.connection import ClientGone, Connection, Streaming
