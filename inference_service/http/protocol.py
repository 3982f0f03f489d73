"""Uvicorn's HTTP protocol, for requests with a body that offer to switch to another protocol.

Java's client offers `Upgrade: h2c` with every request. httptools then stops at the end of the head, and
uvicorn answers the request without its body. nginx removes every offer but a WebSocket's; a node that is
called directly has no nginx. This overrides private members of uvicorn, so pyproject.toml pins its minor
version.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """One connection. A request whose offer is declined is parsed again without the offer."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            left = memoryview(data)
            while left:
                left = self._parse(left)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _parse(self, data: memoryview) -> memoryview:
        """Parse `data`; what follows the head of a declined offer is returned, and not copied: a client can
        send thousands of them at once."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._declines():
                version = self.parser.get_http_version().encode()
                head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
                head += [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.feed_data(b"\r\n".join([*head, b"", b""]))
                return data[offer.args[0] :]
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        return data[:0]

    def _should_upgrade(self) -> bool:  # the WebSocket library does not answer other methods
        return self.parser.get_method() == b"GET" and super()._should_upgrade()

    def _declines(self) -> bool:
        return self.parser.should_upgrade() and bool(self._get_upgrade()) and not self._should_upgrade()

    def on_headers_complete(self) -> None:
        if not self._declines():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._declines():
            super().on_message_complete()
