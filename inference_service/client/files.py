"""Recordings in files: what the command line says of one, and its bytes."""

import stat
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO

from inference_service import audio_formats
from inference_service.client.errors import ClientError


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A recording of any format that the service reads.

    `format`, `sample_rate` (Hz) and `channels` describe audio without a header. None: what the file's name
    and content tell, and the format's defaults.
    """

    path: Path
    format: str | None = None
    sample_rate: int | None = None
    channels: int | None = None

    def open(self) -> BinaryIO:
        """Open the recording for reading. What comes through a pipe is read to its end.

        Raises ClientError for what is missing, unreadable, empty or a folder.
        """
        try:
            file: BinaryIO = self.path.open("rb")
            if not stat.S_ISREG(self.path.stat().st_mode):
                with file:
                    file = BytesIO(file.read())
            size = file.seek(0, SEEK_END)
            file.seek(0)
        except OSError as error:
            raise self.unreadable(error) from None
        if not size:
            file.close()
            raise ClientError(f"{self.path}: is empty")
        return file

    def read(self) -> bytes:
        """Return the whole recording. Raises what `open` raises."""
        with self.open() as file:
            try:
                return file.read()
            except OSError as error:
                raise self.unreadable(error) from None

    @property
    def format_name(self) -> str | None:
        """The format's name, from `format` or from the file's name; None where neither tells."""
        known = audio_formats.of_file_name(self.path.name)
        return self.format or (known.name if known else None)

    def unreadable(self, error: OSError) -> ClientError:
        """The error for the system's."""
        return ClientError(f"{self.path}: cannot be read: {error.strerror or error}")
