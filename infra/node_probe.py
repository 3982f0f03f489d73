"""Asks a node to work, and reads its metrics: `python node_probe.py`, with JSON on standard input.

The judgement of a changed node runs this file's text in the service's container, so it uses only the
standard library. Input: `url` of the service; with `audio` (a WAV file in base64) each task that the node
offers is asked `times` times, each within `seconds`. Output, as JSON: `work`, by task the `status`, the
shortest `seconds` and the `answer` or the service's `message`; `requests`, by entrance and route the counted
`all` and `failed` requests and their `seconds`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any

_ROUTES = {"speech_recognition": "asr", "emotion_detection": "emotion", "synthesis_detection": "synthesis"}
_FAILED = re.compile(r"5\d\d|INTERNAL|UNAVAILABLE|UNKNOWN|DEADLINE_EXCEEDED")
# What clients and monitoring ask for is no work.
_NO_WORK = re.compile(r"unmatched|.*/(health|metrics|info|docs|openapi\.json|demo)\b.*|/health|/metrics")
_SAMPLE = re.compile(r"ai_request(s_total|_seconds_sum)\{([^}]*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def probe(asked: dict[str, Any]) -> dict[str, Any]:
    """The answers of the node, as described above."""
    found: dict[str, Any] = {}
    if "audio" in asked:
        audio = base64.b64decode(asked["audio"])
        status, info = _send(asked["url"] + "/api/v1/ai/info", None, asked["seconds"])
        offered = info.get("data", {}).get("capabilities", []) if status == 200 else []
        found["offers"] = {"status": status, "message": info.get("message", "")}
        found["work"] = {
            _ROUTES[task]: _work(asked, _ROUTES[task], audio) for task in offered if task in _ROUTES
        }
    found["requests"] = _requests(_text(asked["url"] + "/metrics"))
    return found


def _work(asked: dict[str, Any], route: str, audio: bytes) -> dict[str, Any]:
    work: dict[str, Any] = {}
    for _ in range(asked["times"]):
        begun = time.perf_counter()
        status, answer = _send(f"{asked['url']}/api/v1/ai/{route}", audio, asked["seconds"])
        seconds = time.perf_counter() - begun
        fastest = min(seconds, work.get("seconds", seconds))
        work = {"status": status, "seconds": fastest, "message": answer.get("message", "")}
        work["answer"] = answer.get("data")
        if status != 200:
            break
    return work


def _send(url: str, audio: bytes | None, seconds: float) -> tuple[int, dict[str, Any]]:
    """The status and the envelope of an answer; status 0 and the reason without one."""
    headers = {"Content-Type": "audio/wav"} if audio is not None else {}
    keys = json.loads(os.environ.get("SERVER__API_KEYS") or "[]")
    if keys:
        headers["X-API-Key"] = keys[0]
    request = urllib.request.Request(url, data=audio, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=seconds, context=_context(url)) as answer:
            return answer.status, _envelope(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _envelope(error.read())
    except (http.client.HTTPException, OSError) as error:
        late = isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)
        return 0, {"message": f"no answer within {seconds:g} s" if late else f"no answer: {error}"}


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        envelope = json.loads(body)
    except ValueError:
        envelope = None
    return envelope if isinstance(envelope, dict) else {"message": "an answer that is no JSON object"}


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5, context=_context(url)) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except (http.client.HTTPException, OSError):
        return ""


def _context(url: str) -> ssl.SSLContext | None:
    # The certificate names the public host, and this request goes to the loopback address.
    return ssl._create_unverified_context() if url.startswith("https:") else None


def _requests(metrics: str) -> dict[str, dict[str, float]]:
    """What the node's Prometheus metrics say of the requests for work, by entrance and route."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in _SAMPLE.findall(metrics):
        label = dict(_LABEL.findall(labels))
        if _NO_WORK.fullmatch(label.get("route", "")):
            continue
        counted = found.setdefault(
            f"{label.get('entrance')} {label.get('route')}", {"all": 0.0, "failed": 0.0, "seconds": 0.0}
        )
        if name == "_seconds_sum":
            counted["seconds"] += float(value)
        else:
            counted["all"] += float(value)
            counted["failed"] += float(value) if _FAILED.fullmatch(label.get("status", "")) else 0.0
    return found


if __name__ == "__main__":
    print(json.dumps(probe(json.load(sys.stdin))))
