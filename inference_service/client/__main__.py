"""`speech transcribe FILE`: the text of a recording, or of live audio on standard input."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TextIO

from inference_service.addresses import GATEWAY_GRPC_PORT, GATEWAY_HTTP_PORT
from inference_service.client import recording
from inference_service.client.errors import ClientError
from inference_service.client.live import StreamOptions, transcribe_live
from inference_service.client.transports import over_grpc, over_websocket
from inference_service.client.upload import ask

_EXAMPLES = f"""\
examples:
  speech transcribe talk.flac                          the whole recording, over HTTP
  speech transcribe talk.flac --realtime               as if it were spoken now, over a WebSocket
  speech transcribe talk.flac --grpc localhost:{GATEWAY_GRPC_PORT}    streamed over gRPC
  arecord -t raw -f S16_LE -r 16000 | speech transcribe - --rate 16000
"""

#: Milliseconds between partial texts of live audio.
_LIVE_INTERVAL_MS = 500


def main() -> int:
    """Run the command line. Returns the exit status: 0, or 1 if the service or the recording failed; argparse
    exits with 2 for invalid arguments."""
    arguments = _parser().parse_args()
    display = _Display(sys.stdout, sys.stderr, as_json=arguments.json)
    try:
        if arguments.file == "-" or arguments.grpc or arguments.realtime:
            _live(arguments, display)
        else:
            _whole(arguments, display)
    except ClientError as error:
        display.clear()
        print(f"speech: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        display.clear()
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="speech",
        description="Transcribe speech with an inference node or its gateway.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    transcribe = commands.add_parser(
        "transcribe",
        help="speech to text",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    transcribe.add_argument("file", metavar="FILE", help="the recording; - for 16-bit PCM on standard input")
    transcribe.add_argument(
        "--url",
        default=os.environ.get("SPEECH_URL", f"http://127.0.0.1:{GATEWAY_HTTP_PORT}"),
        help="HTTP address of the gateway or of a node (SPEECH_URL; default: %(default)s)",
    )
    transcribe.add_argument("--grpc", metavar="HOST:PORT", help="stream over gRPC instead of HTTP")
    transcribe.add_argument("--tls", action="store_true", help="gRPC over TLS")
    transcribe.add_argument("--language", help="en, de, …; default: detected")
    transcribe.add_argument("--api-key", default=os.environ.get("SPEECH_API_KEY"), help="(SPEECH_API_KEY)")
    transcribe.add_argument("--json", action="store_true", help="results as JSON, one a line")
    transcribe.add_argument("--realtime", action="store_true", help="stream a file as fast as it is spoken")
    transcribe.add_argument(
        "--partial",
        type=int,
        metavar="MS",
        help=f"milliseconds between partial texts of a stream, 0 for none (default: {_LIVE_INTERVAL_MS} for "
        "live audio, else 0)",
    )
    transcribe.add_argument("--rate", type=int, default=48000, help="Hz, of standard input (%(default)s)")
    transcribe.add_argument("--channels", type=int, default=1, help="of standard input (%(default)s)")
    return parser


def _whole(arguments: argparse.Namespace, display: _Display) -> None:
    def progress(part: float) -> None:
        display.show("recognising …" if part == 1.0 else f"sending {part:.0%}")

    result = ask(
        "asr",
        arguments.url,
        Path(arguments.file),
        api_key=arguments.api_key,
        language=arguments.language,
        progress=progress,
    )
    display.final(result["text"], result)


def _live(arguments: argparse.Namespace, display: _Display) -> None:
    live = arguments.file == "-" or arguments.realtime
    if arguments.file == "-":
        audio = recording.from_pipe(sys.stdin.buffer, arguments.rate, arguments.channels)
    else:
        audio = recording.from_file(Path(arguments.file), realtime=arguments.realtime)
    interval = arguments.partial if arguments.partial is not None else (_LIVE_INTERVAL_MS if live else 0)
    options = StreamOptions(arguments.language, interval, arguments.api_key)
    attempt = (
        over_grpc(arguments.grpc, tls=arguments.tls)
        if arguments.grpc
        else over_websocket(arguments.url.rstrip("/"))
    )
    for update in transcribe_live(audio, options, attempt):
        if update.is_final:
            display.final(update.text, update.result)
        else:
            display.partial(update.text, update.result)


class _Display:
    """Prints final text to standard output, and progress and partial text on one line of the terminal."""

    def __init__(self, output: TextIO, terminal: TextIO, *, as_json: bool) -> None:
        self._output = output
        self._terminal = terminal if terminal.isatty() else None
        self._as_json = as_json
        self._errors = terminal
        self._warned = False

    def show(self, text: str) -> None:
        """Replace the line on the terminal."""
        if self._terminal is not None:
            width = os.get_terminal_size(self._terminal.fileno()).columns - 1
            print(f"\r\x1b[K{text[-width:]}", end="", file=self._terminal, flush=True)

    def clear(self) -> None:
        """Clear the line on the terminal."""
        self.show("")

    def partial(self, text: str, result: dict[str, object]) -> None:
        """Show a text that may still change."""
        if self._as_json:
            print(json.dumps(result, ensure_ascii=False), file=self._output, flush=True)
        else:
            self.show(text)

    def final(self, text: str, result: dict[str, object]) -> None:
        """Print a text that will not change, and once what its model cannot be trusted with."""
        self.clear()
        answer = result.get("result_data", result)
        if isinstance(answer, dict) and answer.get("caveat") and not self._warned:
            self._warned = True
            model = f"{answer['kind']} model" if "kind" in answer else "model"
            print(f"speech: caveat of the node's {model}: {answer['caveat']}", file=self._errors, flush=True)
        if self._as_json or text:
            line = json.dumps(result, ensure_ascii=False) if self._as_json else text
            print(line, file=self._output, flush=True)


if __name__ == "__main__":
    sys.exit(main())
