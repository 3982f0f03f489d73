"""`make gpu` where there is no GPU. A shell script stands for NVIDIA's `nvidia-smi`; no GPU computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu import nvidia
from tests.gpu.__main__ import main

pytestmark = pytest.mark.fast

TABLE = "0, NVIDIA A10G, 512, 23028, 7\n1, NVIDIA A10G, 4, 23028, 0\n"


def double(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_nvidia_smi_one_line_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main() == 0
    assert capsys.readouterr().out == "make gpu: no nvidia-smi here, so no NVIDIA GPU: nothing to check\n"


def test_the_gpus_are_those_of_nvidia_smi(monkeypatch, tmp_path):
    double(tmp_path, monkeypatch, f"printf '{TABLE}'")
    assert nvidia.gpus() == [
        nvidia.Gpu(0, "NVIDIA A10G", 512, 23028, 7),
        nvidia.Gpu(1, "NVIDIA A10G", 4, 23028, 0),
    ]


def test_a_driver_that_does_not_answer_is_reported_in_its_own_words(monkeypatch, tmp_path, capsys):
    double(tmp_path, monkeypatch, "echo 'Driver/library version mismatch'; exit 18")
    assert main() == 1
    assert "nvidia-smi failed: Driver/library version mismatch" in capsys.readouterr().err


def test_a_watch_keeps_the_most_of_each_gpu(monkeypatch, tmp_path):
    """The double shows more memory at each call, and less use."""
    double(
        tmp_path,
        monkeypatch,
        f'echo >>{tmp_path}/calls; n=$(wc -l <{tmp_path}/calls); echo "0, A, $((n * 10)), 99, $((50 - n))"',
    )
    with nvidia.Watch() as watch:
        while len((tmp_path / "calls").read_text()) < 3:
            pass
    assert watch.most[0].used >= 30
    assert watch.most[0].busy == 49
