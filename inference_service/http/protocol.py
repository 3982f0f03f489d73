"""Uvicorn's HTTP, which tells a client that does not speak it so in the envelope."""

from __future__ import annotations

import uuid

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference_service.http.envelope import enveloped


class HttpProtocol(HttpToolsProtocol):
    """One connection. What cannot be read as HTTP never becomes a request, so `front` does not see it."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what was sent, and close the connection: where a next request would begin is unknown."""
        request_id = uuid.uuid4().hex
        body = enveloped(400, "not a valid HTTP request", None, request_id)
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
