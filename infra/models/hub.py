"""The Hugging Face hub, or a mirror of it: the files of a repository, downloaded and verified."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import build_hf_headers

from infra.models.checksums import KnownFile
from infra.models.download import Progress, WrongContent, download
from infra.models.problem import ModelProblem


def cache_folder() -> Path:
    """Where files arrive: out of the model repository, which so never has half a model."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpu-inference-fleet" / "downloads"


class Hub:
    """The hub's repositories. `mirror` is the address of another server with the hub's API.

    Without it, the address is `HF_ENDPOINT`'s, else huggingface.co. A mirror gets no token of the user's.
    """

    def __init__(self, mirror: str | None = None) -> None:
        self.endpoint = (mirror or constants.ENDPOINT).rstrip("/")
        self._token: bool | None = False if mirror else None
        self._api = HfApi(endpoint=self.endpoint, token=self._token)

    def files(
        self, repository: str, revision: str | None, patterns: list[str]
    ) -> tuple[str, list[KnownFile]]:
        """The repository's commit, and its files out of folders that match a pattern."""
        with self._errors(repository, revision):
            info = self._api.model_info(repository, revision=revision, files_metadata=True)
        found = [
            KnownFile(
                each.rfilename,
                each.size,
                each.lfs.sha256 if each.lfs else None,
                None if each.lfs else each.blob_id,
            )
            for each in info.siblings or []
            if "/" not in each.rfilename
            and any(fnmatch.fnmatch(each.rfilename, pattern) for pattern in patterns)
        ]
        return info.sha or revision or "main", found

    def pinned(
        self, repository: str, revision: str | None, files: dict[str, str | None]
    ) -> tuple[str, list[KnownFile]]:
        """The commit, and the files by name with the catalogue's SHA-256, as the server has them.

        Asks for each file, which servers without the rest of the hub's API answer, too.
        """
        known = []
        commit = revision or "main"
        for name, sha256 in files.items():
            with self._errors(repository, revision):
                url = hf_hub_url(repository, name, revision=commit, endpoint=self.endpoint)
                metadata = get_hf_file_metadata(url, token=self._token, endpoint=self.endpoint)
            commit = metadata.commit_hash or commit
            known.append(KnownFile.with_etag(name, metadata.size, metadata.etag, sha256))
        return commit, known

    def fetch(
        self, repository: str, commit: str, files: list[KnownFile], into: Path, progress: Progress
    ) -> None:
        """Download the files into the folder `into`, each verified. Raises ModelProblem.

        `into` is a folder of `cache_folder`. A lost connection leaves it for the next call; a wrong checksum
        or a full disk removes it.
        """
        for file in files:
            if not file.can_be_verified:
                raise ModelProblem(f"{self.endpoint} gives no checksum of {repository}/{file.name}")
        headers = build_hf_headers(token=self._token)
        with (
            _faults_remove(into),
            httpx2.Client(follow_redirects=True, headers=headers, timeout=30) as client,
        ):
            into.mkdir(parents=True, exist_ok=True)
            with _lock(into):
                for file in files:
                    target = into / file.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    url = hf_hub_url(repository, file.name, revision=commit, endpoint=self.endpoint)
                    download(client, url, file, target, progress)

    @contextlib.contextmanager
    def _errors(self, repository: str, revision: str | None) -> Iterator[None]:
        where = f"{self.endpoint}/{repository}" + (f" at {revision}" if revision else "")
        try:
            yield
        except GatedRepoError:
            raise ModelProblem(
                f"{where}: accept its terms on the hub, then set HF_TOKEN to a token of yours"
            ) from None
        except RepositoryNotFoundError:
            raise ModelProblem(f"{where}: there is no such repository, or it is private (HF_TOKEN)") from None
        except HfHubHTTPError as error:
            raise ModelProblem(
                f"{where}: {error.response.status_code} {error.response.reason_phrase}"
            ) from None
        except OfflineModeIsEnabled:
            raise ModelProblem("HF_HUB_OFFLINE is set; --from FOLDER takes a local copy") from None
        except httpx2.TransportError as error:
            raise ModelProblem(
                f"{where}: {str(error) or type(error).__name__}; "
                "--mirror URL names another server, --from FOLDER a local copy"
            ) from None
        except ValueError as error:  # a malformed repository name
            raise ModelProblem(f"{repository}: {error}") from None


def arrivals(repository: str, commit: str) -> Path:
    """The folder in which the files of that commit arrive."""
    return cache_folder() / re.sub(r"[^\w.@-]", "--", f"{repository}@{commit}")


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelProblem(f"another command is downloading to {folder}; wait for it") from None
        yield


@contextlib.contextmanager
def _faults_remove(folder: Path) -> Iterator[None]:
    try:
        yield
    except WrongContent:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ModelProblem(f"{folder}: {error.strerror}; what arrived there is removed") from None
