"""The command `speech`: its arguments, and what of them goes together."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from inference_service import __version__, audio_formats
from inference_service.addresses import GATEWAY_GRPC_PORT, GATEWAY_HTTP_PORT
from inference_service.client import arguments, batch, outputs
from inference_service.client.arguments import Format, Task
from inference_service.client.display import Display
from inference_service.client.outputs import WrongArguments
from inference_service.client.upload import Entrance

WRONG_ARGUMENTS = 2

_EPILOG = f"""\
Examples:

speech talk.m4a · the text of a recording

speech *.wav --format srt --beside · subtitles next to each recording

speech talk.m4a --task emotion · the emotion of a voice; synthesis: whether the voice is synthetic

speech talk.m4a --grpc localhost:{GATEWAY_GRPC_PORT} · over gRPC

speech talk.m4a --realtime · as if it were spoken now, over a WebSocket

speech --microphone · what you say, until Ctrl-C

arecord -t raw -f S16_LE -r 16000 | speech - --rate 16000 · live audio on standard input

Exit status: 0 done · 1 a recording cannot be read, the service refused it, or the microphone is gone ·
2 wrong arguments · 3 no node answers, or all are busy: try again later · 130 interrupted (Ctrl-C) ·
141 whoever read the text has gone (a broken pipe)
"""
_HEADERLESS = ", ".join(each.name for each in audio_formats.HEADERLESS)

app = typer.Typer(
    name="speech", pretty_exceptions_enable=False, add_completion=False, rich_markup_mode="rich"
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"speech {__version__}")
        raise typer.Exit


@app.command(no_args_is_help=True, epilog=_EPILOG)
def speech(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="recordings, of any format; - for 16-bit PCM on standard input"),
    ] = None,
    task: Annotated[Task, typer.Option("--task", help="asr is speech recognition")] = Task.ASR,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            metavar="|".join(Format),
            parser=arguments.written_format,
            help="of results; srt and vtt are subtitles",
        ),
    ] = Format.TXT,
    as_json: Annotated[
        bool, typer.Option("--json", help="--format json: results as JSON, one a line")
    ] = False,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="write each result to a file in this folder")
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", "-b", help="write each result next to its recording")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace files of results that are there")] = False,
    microphone: Annotated[bool, typer.Option("--microphone", "-m", help="listen until Ctrl-C")] = False,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="the microphone; default: the system's")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language", "-l", parser=arguments.language, metavar="CODE", help="en, de, …; default: detected"
        ),
    ] = None,
    url: Annotated[
        str, typer.Option("--url", envvar="SPEECH_URL", help="HTTP address of the gateway or of a node")
    ] = f"http://127.0.0.1:{GATEWAY_HTTP_PORT}",
    grpc: Annotated[
        str | None,
        typer.Option(
            "--grpc", parser=arguments.host_port, metavar="HOST:PORT", help="use gRPC instead of HTTP"
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="gRPC over TLS")] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            parser=arguments.key,
            metavar="KEY",
            envvar="SPEECH_API_KEY",
            help="better in the environment: others on this computer see arguments",
        ),
    ] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="stream a file as fast as it is spoken")
    ] = False,
    partial: Annotated[
        int | None,
        typer.Option(
            "--partial",
            parser=arguments.count,
            metavar="MS",
            help=f"stream, with this many milliseconds between partial texts, 0 for none (default: "
            f"{batch.LIVE_INTERVAL_MS} for live audio)",
        ),
    ] = None,
    timeout: Annotated[
        int,
        typer.Option("--timeout", parser=arguments.positive, metavar="S", help="seconds for an answer"),
    ] = 300,
    input_format: Annotated[
        str | None,
        typer.Option(
            "--input-format",
            parser=arguments.input_format,
            metavar="NAME",
            help=f"of a file without a header: {_HEADERLESS}; default: by its name",
        ),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            parser=arguments.positive,
            metavar="HZ",
            help=f"of audio without a header; default: the format's, {batch.PIPE_RATE} for standard input",
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            "--channels", parser=arguments.positive, metavar="N", help="of audio without a header (1)"
        ),
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> Callable[[], int]:
    """Transcribe speech, or judge a voice, with an inference node or its gateway."""
    if as_json and format_ not in (Format.TXT, Format.JSON):
        raise WrongArguments(f"--json and --format {format_}: give one of them")
    format_ = Format.JSON if as_json else format_
    entrance = Entrance(url, api_key or None, timeout)
    job = batch.Job(
        task.value,
        format_.value,
        entrance,
        grpc,
        tls,
        language,
        realtime,
        partial,
        input_format,
        rate,
        channels,
    )
    given = files or []
    _check(job, given, microphone)
    display = Display(sys.stdout, sys.stderr, as_json=format_ is Format.JSON)
    if microphone:
        if output_dir is not None or beside:
            raise WrongArguments("--microphone writes to standard output: speech --microphone >talk.txt")
        return lambda: batch.listen(job, device, display)
    targets = outputs.targets(given, format_, output_dir, beside=beside)
    if format_ in (Format.SRT, Format.VTT) and len(given) > 1 and None in targets:
        raise WrongArguments(
            f"--format {format_} of several recordings needs --beside or --output-dir FOLDER"
        )
    return lambda: batch.run(job, given, targets, display, force=force)


def _check(job: batch.Job, files: list[str], microphone: bool) -> None:
    """Raises WrongArguments for options that do not go together."""
    if bool(files) == microphone:
        raise WrongArguments(
            "--microphone takes no FILE"
            if files
            else "no FILE is given; - is standard input, --microphone listens"
        )
    live = microphone or job.streamed or batch.STANDARD_INPUT in files
    if live and (job.task != "asr" or job.format in ("srt", "vtt")):
        option = f"--task {job.task}" if job.task != "asr" else f"--format {job.format}"
        raise WrongArguments(f"{option} is for whole recordings, not for live audio")
    if job.format in ("srt", "vtt"):
        if job.task != "asr":
            raise WrongArguments(f"--format {job.format} is for speech; --task {job.task} takes txt or json")
        for option, is_given in (("--grpc", job.grpc), ("--rate", job.rate), ("--channels", job.channels)):
            if is_given:
                raise WrongArguments(f"--format {job.format} does not go with {option}")


def run(words: list[str]) -> int:
    """Run the command line. Returns the exit status, as `--help` lists them.

    Raises OSError of standard output, and KeyboardInterrupt.
    """
    if words[:1] == ["transcribe"]:  # what the command was before it had other tasks
        words = words[1:]
    try:
        work = app(words, prog_name="speech", standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except WrongArguments as error:
        reason = str(error)
    except TyperException as error:
        reason = error.format_message().rstrip(".")
    else:
        # Not inside Typer, which ends a program itself when whoever reads its output has gone.
        return int(work()) if callable(work) else 0
    if not reason:  # no arguments: the help is printed
        return WRONG_ARGUMENTS
    print(f"speech: {reason}. For help: speech --help", file=sys.stderr)
    return WRONG_ARGUMENTS
