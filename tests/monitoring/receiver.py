"""A receiver of Alertmanager's webhook."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


@contextmanager
def webhook(address: str = "127.0.0.1", path: str = "") -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Its URL, and the alerts that came there: status, name, node."""
    came: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]:
                labels = alert["labels"]
                came.append((alert["status"], labels["alertname"], labels.get("node", "")))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_address[1]}{path}", came
    finally:
        server.shutdown()
        server.server_close()
