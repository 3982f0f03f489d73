"""`fleet deploy` leaves out what no person reads, such as the digests of images that are built."""

from __future__ import annotations

import io

import pytest

from infra.cli.short_log import ShortLog, pass_on

pytestmark = pytest.mark.fast

DIGEST = "sha256:a9ef5dbc61d6381130400c3338afc7e8594a868aca52fc7acf38da761d01472c"
#: Lines of the CLI 3.259 with the Docker provider 4.
IMAGE = " +  docker:index:Image triton-image@root@192.0.2.11"


@pytest.mark.parametrize(
    "line",
    [
        f"{IMAGE} creating (0s) Starting Docker build",
        f"{IMAGE} created (52s)",
        f"{IMAGE} creating (9s) ERROR: No matching distribution found for numpy==1.26.4",
        f"{IMAGE} **creating failed** error: failed to solve: {DIGEST}: not found",
        f" +  docker:index/remoteImage:RemoteImage gateway-image@root@192.0.2.1 created (1s) {DIGEST}",
        f" +  command:local:Command gpu-1-ready@192.0.2.11 creating (1s) digest: {DIGEST}",
        "",
    ],
)
def test_steps_errors_and_other_resources_are_shown(line: str) -> None:
    assert ShortLog().shows(line)


def test_digests_and_repeated_messages_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    said = [
        f"{IMAGE} creating (0s) Starting Docker build",
        f"{IMAGE} creating (2s) digest: {DIGEST}",
        f"{IMAGE} creating (2s) [1/6] FROM docker.io/library/python:3.12",
        f"{IMAGE} creating (3s) [1/6] FROM docker.io/library/python:3.12",
        f"{IMAGE} creating (3s) digest: {DIGEST}",
        f"{IMAGE} created (9s)",
    ]
    pass_on(io.StringIO("".join(f"{line}\n" for line in said)))
    shown = [said[0], said[2], said[5]]
    assert capsys.readouterr().out.splitlines() == shown
