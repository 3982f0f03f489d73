"""`speech transcribe FILE`: the text of a recording, or of live audio on standard input."""

import argparse
import io
import os
import re
import sys
from pathlib import Path

from inference_service import audio_formats
from inference_service.addresses import GATEWAY_GRPC_PORT, GATEWAY_HTTP_PORT
from inference_service.client import sources
from inference_service.client.display import Display
from inference_service.client.errors import ClientError, Unavailable
from inference_service.client.files import AudioFile
from inference_service.client.live import StreamOptions, transcribe_live
from inference_service.client.over_grpc import ask_over_grpc, over_grpc
from inference_service.client.over_websocket import over_websocket
from inference_service.client.upload import ask

_EPILOG = f"""\
examples:
  speech transcribe talk.m4a                           the whole recording, over HTTP
  speech transcribe talk.m4a --grpc localhost:{GATEWAY_GRPC_PORT}     the same over gRPC
  speech transcribe talk.m4a --realtime                as if it were spoken now, over a WebSocket
  speech transcribe call.raw --format mulaw            audio without a header
  arecord -t raw -f S16_LE -r 16000 | speech transcribe - --rate 16000

exit status:
  0    the text is printed
  1    the recording cannot be read, or the service refused it
  2    the arguments are wrong
  3    no node answers, or all are busy: try again later
  130  interrupted (Ctrl-C)
  141  whoever read the text has gone (a broken pipe)
"""

FAILED, TRY_LATER, INTERRUPTED, BROKEN_PIPE = 1, 3, 130, 141

#: Milliseconds between partial texts of live audio.
_LIVE_INTERVAL_MS = 500

#: Hz, of standard input.
_PIPE_RATE = 48_000


def main() -> int:
    """Run the command line. Returns the exit status, as `--help` lists them; argparse exits with 2."""
    arguments = _parser().parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The terminal may not have the letters of every language.
        sys.stdout.reconfigure(errors="replace")
    display = Display(sys.stdout, sys.stderr, as_json=arguments.json)
    try:
        _transcribe(arguments, display)
        print(end="", flush=True)
    except ClientError as error:
        display.fail(str(error))
        return TRY_LATER if isinstance(error, Unavailable) else FAILED
    except KeyboardInterrupt:
        display.clear()
        return INTERRUPTED
    except OSError as error:  # of standard output: every other one is a ClientError
        # What is still buffered would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        display.fail(f"the text cannot be written: {error.strerror}")
        return FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="speech",
        description="Transcribe speech with an inference node or its gateway.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    transcribe = commands.add_parser(
        "transcribe",
        help="speech to text",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = transcribe.add_argument
    add("file", metavar="FILE", help="the recording, of any format; - for 16-bit PCM on standard input")
    add(
        "--url",
        default=os.environ.get("SPEECH_URL", f"http://127.0.0.1:{GATEWAY_HTTP_PORT}"),
        help="HTTP address of the gateway or of a node (SPEECH_URL; default: %(default)s)",
    )
    add("--grpc", type=_host_port, metavar="HOST:PORT", help="use gRPC instead of HTTP")
    add("--tls", action="store_true", help="gRPC over TLS")
    add("--language", type=_language, help="en, de, …; default: detected")
    add("--api-key", type=_key, default=os.environ.get("SPEECH_API_KEY"), help="(SPEECH_API_KEY)")
    add("--json", action="store_true", help="results as JSON, one a line")
    add("--realtime", action="store_true", help="stream a file as fast as it is spoken")
    add(
        "--partial",
        type=_count,
        metavar="MS",
        help=f"stream, with this many milliseconds between partial texts, 0 for none (default: "
        f"{_LIVE_INTERVAL_MS} for live audio)",
    )
    add("--timeout", type=_positive, default=300, metavar="S", help="seconds for an answer (%(default)s)")
    headerless = ", ".join(each.name for each in audio_formats.HEADERLESS)
    add("--format", type=_format, help=f"of a file without a header: {headerless}; default: by its name")
    add(
        "--rate",
        type=_positive,
        metavar="HZ",
        help=f"of audio without a header; default: the format's, {_PIPE_RATE} for standard input",
    )
    add("--channels", type=_positive, metavar="N", help="of audio without a header (1)")
    return parser


def _transcribe(arguments: argparse.Namespace, display: Display) -> None:
    file = AudioFile(Path(arguments.file), arguments.format, arguments.rate, arguments.channels)
    options = StreamOptions(arguments.language, api_key=arguments.api_key)
    if arguments.file == "-" or arguments.realtime or arguments.partial is not None:
        _stream(arguments, file, display)
    elif arguments.grpc:
        display.show("recognising …")
        result = ask_over_grpc(arguments.grpc, file, options, tls=arguments.tls, timeout=arguments.timeout)
        display.final(result["text"], result)
    else:
        result = ask(
            "asr",
            arguments.url,
            file,
            api_key=arguments.api_key,
            language=arguments.language,
            timeout=arguments.timeout,
            progress=lambda part: display.show("recognising …" if part == 1.0 else f"sending {part:.0%}"),
        )
        display.final(result["text"], result)


def _stream(arguments: argparse.Namespace, file: AudioFile, display: Display) -> None:
    is_pipe = arguments.file == "-"
    attempt = (
        over_grpc(arguments.grpc, tls=arguments.tls) if arguments.grpc else over_websocket(arguments.url)
    )
    recording = (
        sources.from_pipe(_standard_input(), arguments.rate or _PIPE_RATE, arguments.channels or 1)
        if is_pipe
        else sources.from_file(file, realtime=arguments.realtime)
    )
    interval = _LIVE_INTERVAL_MS if arguments.partial is None else arguments.partial
    options = StreamOptions(arguments.language, interval, arguments.api_key)
    for update in transcribe_live(recording, options, attempt, waiting=display.show):
        if update.is_final:
            display.final(update.text, update.result)
        else:
            display.partial(update.text, update.result)


def _standard_input() -> int:
    if sys.stdin is None:
        raise ClientError("standard input: is closed")
    return sys.stdin.fileno()


def _host_port(text: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+):([0-9]{1,5})", text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return text


def _key(text: str) -> str:
    """The key without the line break that files end with. An error does not show it."""
    if not re.fullmatch(r"[!-~]*", text.strip()):
        raise argparse.ArgumentTypeError("expected letters, digits and signs of ASCII, without blanks")
    return text.strip()


def _language(text: str) -> str:
    if not text.isascii():
        raise argparse.ArgumentTypeError(f"expected a language such as en or german, got {text!r}")
    return text


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("expected more than 0")
    return int(text)


def _format(text: str) -> str:
    if audio_formats.named(text) is None:
        raise argparse.ArgumentTypeError(f"expected one of {audio_formats.names()}; got {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
