"""A microphone as a recording, through PortAudio."""

from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from inference_service.client.errors import ClientError
from inference_service.client.recording import Recording

_INSTALL = "Install it: pip install 'gpu-inference-fleet[microphone]'"
_PORTAUDIO = "Install it (Debian, Ubuntu: apt-get install libportaudio2)"
_LIST = "python -m sounddevice lists them; name one: --device NAME"


class Microphone:
    """An open microphone; `recording` has what it hears until `stop`, or until the microphone is gone."""

    def __init__(self, device: str | None = None) -> None:
        """`device` is a part of the microphone's name, or its number; None: the system's own.

        Raises ClientError without a library, PortAudio or a microphone.
        """
        library = _library()
        try:
            chosen = int(device) if device is not None and device.isdecimal() else device
            # Its own rate: PortAudio does not convert, and the service does.
            rate = int(library.query_devices(chosen, "input")["default_samplerate"])
            self.recording = Recording(rate)
            self._wanted = True
            self._gone = False
            self._heard: SimpleQueue[bytes | None] = SimpleQueue()
            self._stream = library.RawInputStream(
                samplerate=rate,
                channels=1,
                dtype="int16",
                device=chosen,
                callback=self._hear,
                finished_callback=self._ended,
            )
            self._stream.start()
        except (library.PortAudioError, ValueError) as error:
            raise ClientError(
                f"the microphone{f' {device}' if device else ''} cannot be used: {error}", _LIST
            ) from None
        Thread(target=self._fill, daemon=True).start()

    def _hear(self, data: Any, frames: int, time: object, status: object) -> None:
        # PortAudio's thread must not wait, and `append` may.
        self._heard.put(bytes(data))

    def _ended(self) -> None:
        # PortAudio ends a stream by itself when its device is pulled out, and hears no more.
        self._gone = self._wanted
        self._heard.put(None)

    def _fill(self) -> None:
        while (data := self._heard.get()) is not None and self.recording.append(data):
            pass
        self.recording.finish()

    def check(self) -> None:
        """Raises ClientError if the microphone ended before `stop`."""
        if self._gone:
            raise ClientError("the microphone is gone: it was pulled out, or its server ended", _LIST)

    def stop(self) -> None:
        """Close the microphone; what it has heard is recognised to its end."""
        self._wanted = False
        with suppress(Exception):  # a microphone that was pulled out
            self._stream.abort()
            self._stream.close()
        self._heard.put(None)


def _library() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise ClientError("the microphone needs the package sounddevice", _INSTALL) from None
    except OSError:
        raise ClientError(
            "the microphone needs PortAudio, which is not on this computer", _PORTAUDIO
        ) from None
    return sounddevice
