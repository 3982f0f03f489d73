"""A protocol double of Edge-LLM's unit manager and llm node. It runs no model.

    python -m tests.doubles.unit_manager --port 19001 [--host 0.0.0.0] [--script FILE] [--whole-recv]

By default it follows the line protocol: setup, inference and exit, sessions by work id, several connections.
It computes its answers from the requests (`answer`), so a test sees when an answer reaches the wrong request.
It answers audio that is not a 16 kHz mono 16-bit WAV with an error.

`whole_recv` makes it read like an unfixed unit manager: it takes every `recv()` for exactly one frame, and
answers half a frame or several frames with -2, `json format error`.

A script is a list of steps. It replaces the regular answers on each connection, one step after the other:

    {"expect": "setup"}          wait for a whole request with this action (inference: up to `finish`)
    {"send": [{…}, …]}           send frames, one a line
    {"raw": "…"}                 send this text unchanged, without a line end
    {"split": [{…}, …], "at": n} send frames in pieces of n bytes, a moment apart
    {"pause": seconds}
    {"close": true}
    {"honest": true}             give regular answers from here on

In frames and texts `$request_id` and `$work_id` stand for those of the last request.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Frame = dict[str, Any]
Step = dict[str, Any]

FORMAT_ERROR = {"code": -2, "message": "json format error"}
NO_ERROR = {"code": 0, "message": ""}


def answer(model: str, payload: str) -> dict[str, Any]:
    """A regular answer: a digest of the request, in the fields of the model's task.

    The model's name gives the task, as in the llm node. Raises ValueError for audio that no unit reads.
    """
    if "emotion" in model:
        digest = hashlib.sha256(payload.encode()).digest()
        happy = digest[0] / 255
        return {
            "model": model,
            "emotion": f"mood-{digest.hex()[:12]}",
            "confidence": max(happy, 1 - happy),
            "all_emotions": {"happy": happy, "neutral": 1 - happy},
        }
    digest = hashlib.sha256(_samples_of(payload)).digest()
    if "synthesis" in model:
        score = digest[0] / 255
        return {
            "model": model,
            "is_synthetic": score > 0.5,
            "confidence": max(score, 1 - score),
            "probability_synthetic": score,
            "probability_real": 1 - score,
        }
    return {
        "model": model,
        "transcription": f"heard {digest.hex()[:12]}",
        "confidence": 0.75,
        "language": "en",
    }


def _samples_of(payload: str) -> bytes:
    head = "audio_format=wav,sample_rate=16000,data="
    if not payload.startswith(head):
        raise ValueError(f"not the text of an audio payload: {payload[:60]!r}")
    wav = base64.b64decode(payload[len(head) :], validate=True)
    riff, size, wave, _, _, tag, channels, rate, _, _, bits, data, length = struct.unpack_from(
        "<4sI4s4sIHHIIHH4sI", wav
    )
    if (riff, wave, data) != (b"RIFF", b"WAVE", b"data") or size != len(wav) - 8 or length != len(wav) - 44:
        raise ValueError("not a WAV file")
    if (tag, channels, rate, bits) != (1, 1, 16000, 16):
        raise ValueError(f"not 16 kHz mono 16-bit: {tag=} {channels=} {rate=} {bits=}")
    return wav[44:]


@dataclass
class _Unit:
    """One session: its model and the frames of the incoming request."""

    model: str
    deltas: dict[int, str] = field(default_factory=dict)


class UnitManager:
    """The double. It listens on `port` (0: a free one) after `start` has returned.

    `requests` has every received frame, in order. `refused` names models whose setup fails with -5.
    `answer_delay` is the seconds of an inference. `string_fields` sends `data` and `error` as strings.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        script: Sequence[Step] = (),
        whole_recv: bool = False,
        answer_delay: float = 0.0,
        string_fields: bool = False,
        refused: frozenset[str] = frozenset(),
        max_units: int = 1000,
    ) -> None:
        self.host = host
        self.port = port
        self.script = list(script)
        self.whole_recv = whole_recv
        self.answer_delay = answer_delay
        self.string_fields = string_fields
        self.refused = refused
        self.max_units = max_units
        self.has_llm_node = True
        self.requests: list[Frame] = []
        self.units: dict[str, _Unit] = {}
        self.connections = 0
        self.most_at_once = 0
        self._running = 0
        self._echo = ""
        self._work_ids = itertools.count(1000)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=16 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and cut every connection, as a killed unit manager does. Its units are lost."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        self.units.clear()
        await asyncio.sleep(0)

    async def __aenter__(self) -> UnitManager:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def begin_again(self, *, answered_also_by: str) -> None:
        """Count work ids from the beginning, as after a restart. Each old unit also answers every request,
        until it gets an exit."""
        self._work_ids = itertools.count(1000)
        self._echo = answered_also_by

    def actions(self, action: str) -> list[Frame]:
        """The received requests with this action."""
        return [frame for frame in self.requests if frame.get("action") == action]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        jobs: set[asyncio.Task[None]] = set()
        try:
            frames = self._frames(reader, writer)
            if await self._play(frames, writer):
                async for frame in frames:
                    job = asyncio.create_task(self._answer_honestly(frame, writer))
                    jobs.add(job)
                    job.add_done_callback(jobs.discard)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for job in jobs:
                job.cancel()
            self._writers.discard(writer)
            writer.close()

    async def _frames(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncIterator[Frame]:
        while data := await (reader.read(65536) if self.whole_recv else reader.readline()):
            try:
                frame = json.loads(data)
            except ValueError:
                self._send(writer, {"request_id": "0", "work_id": "sys"}, error=FORMAT_ERROR)
                continue
            self.requests.append(frame)
            yield frame

    # Regular answers -------------------------------------------------------------------------------------

    async def _answer_honestly(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        work_id = frame["work_id"]
        match frame["action"]:
            case "setup" if work_id == "llm" and self.has_llm_node:
                self._set_up(frame, writer)
            case "inference":
                await self._infer(frame, writer)
            case "exit" if work_id == self._echo:
                self._echo = ""
            case "exit" if work_id in self.units:
                del self.units[work_id]  # no answer, like the llm node
            case "list_action" if work_id == "llm" and self.has_llm_node:
                pass  # a call to the node's RPC server, whose answer the unit manager does not forward
            case "exit":
                self._send(writer, frame, error={"code": -6, "message": "Unit Does Not Exist"})
            case _:
                self._send(writer, frame, error={"code": -9, "message": "unit call false"})

    def _set_up(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        model = frame["data"]["model"]
        if model in self.refused:
            self._send(writer, frame, error={"code": -5, "message": "Model loading failed."})
        elif len(self.units) >= self.max_units:
            self._send(writer, frame, error={"code": -21, "message": "task full"})
        else:
            work_id = f"llm.{next(self._work_ids)}"
            self.units[work_id] = _Unit(model)
            self._send(writer, frame | {"work_id": work_id})

    async def _infer(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        unit = self.units.get(frame["work_id"])
        if unit is None:
            self._send(writer, frame, error={"code": -4, "message": "inference data push false"})
            return
        data = frame["data"]
        unit.deltas[data["index"]] = data["delta"]
        if not data["finish"]:
            return
        deltas, unit.deltas = unit.deltas, {}
        if sorted(deltas) != list(range(len(deltas))):
            self._send(writer, frame, error={"code": -25, "message": "Stream data index error."})
            return
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            await asyncio.sleep(self.answer_delay)
            text = json.dumps(answer(unit.model, "".join(deltas[index] for index in sorted(deltas))))
        except ValueError as error:
            text = json.dumps({"error": str(error)})
        finally:
            self._running -= 1
        middle = len(text) // 2
        for index, delta in enumerate((text[:middle], text[middle:], "")):
            for _ in range(2 if self._echo else 1):
                self._send(writer, frame, data={"delta": delta, "index": index, "finish": not delta})

    def _send(
        self, writer: asyncio.StreamWriter, request: Frame, *, data: object = "None", error: Frame = NO_ERROR
    ) -> None:
        streamed = isinstance(data, dict)
        reply = {
            "created": 1731488402,
            "data": json.dumps(data) if self.string_fields and streamed else data,
            "error": json.dumps(error) if self.string_fields else error,
            "object": "llm.utf-8.stream" if streamed else "None",
            "request_id": request["request_id"],
            "work_id": request["work_id"],
        }
        if not writer.is_closing():
            writer.write(json.dumps(reply, ensure_ascii=False).encode() + b"\n")

    # Scripts --------------------------------------------------------------------------------------------

    async def _play(self, frames: AsyncIterator[Frame], writer: asyncio.StreamWriter) -> bool:
        """Run the steps of the script. Returns whether to continue with regular answers."""
        last: Frame = {}
        for step in self.script:
            match step:
                case {"expect": action}:
                    last = await self._expect(frames, action)
                case {"send": replies}:
                    writer.write(b"".join(_line(reply, last) for reply in replies))
                case {"raw": text}:
                    writer.write(_fill(text, last).encode("utf-8", "surrogateescape"))
                case {"split": replies, "at": size}:
                    stream = b"".join(_line(reply, last) for reply in replies)
                    for at in range(0, len(stream), size):
                        writer.write(stream[at : at + size])
                        await asyncio.sleep(0.002)
                case {"pause": seconds}:
                    await asyncio.sleep(seconds)
                case {"close": True}:
                    await writer.drain()
                    return False
                case {"honest": True}:
                    return True
                case _:
                    raise ValueError(f"not a step of a script: {step}")
        if not self.script:
            return True
        async for _ in frames:  # stay connected and silent
            pass
        return False

    async def _expect(self, frames: AsyncIterator[Frame], action: str) -> Frame:
        async for frame in frames:
            if frame.get("action") == action and (action != "inference" or frame["data"]["finish"]):
                return frame
        raise ConnectionError(f"the client left before it sent: {action}")


def _line(reply: Frame, last: Frame) -> bytes:
    return _fill(json.dumps(reply, ensure_ascii=False), last).encode() + b"\n"


def _fill(text: str, last: Frame) -> str:
    for name in ("request_id", "work_id"):
        text = text.replace(f"${name}", str(last.get(name, "")))
    return text


def main() -> None:
    """Runs the double as a process."""
    parser = argparse.ArgumentParser(description="A protocol double of Edge-LLM's unit manager (no models).")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=19001)
    parser.add_argument("--script", type=Path, help="JSON file with a list of steps")
    parser.add_argument("--whole-recv", action="store_true", help="read like an unfixed unit manager")
    arguments = parser.parse_args()
    script = json.loads(arguments.script.read_text()) if arguments.script else ()
    double = UnitManager(
        host=arguments.host, port=arguments.port, script=script, whole_recv=arguments.whole_recv
    )

    async def serve() -> None:
        async with double:
            print(f"unit manager double on {double.host}:{double.port}", flush=True)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
