"""`pulumi up` may be killed at any moment. The next one converges: it creates nothing twice and leaves
nothing over."""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.deployment import Site

SEED = random.SystemRandom().randrange(1000)


@pytest.mark.parametrize("attempt", [0, 1, *(pytest.param(more, marks=pytest.mark.long) for more in (2, 3))])
def test_after_a_kill_at_a_random_moment_up_converges(site: Site, attempt: int) -> None:
    clean = site.containers()
    mark = f"{SEED}-{attempt}"
    site.mark(mark)
    site.program.configure(site.config)
    after = random.Random(SEED * 10 + attempt).uniform(1, 25)
    print(f"seed {SEED}: killed after {after:.1f} s")

    running = site.program.start("up", "--yes", "--skip-preview", "--stack", site.program.stack)
    deadline = time.monotonic() + after
    while running.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.kill()

    site.program.pulumi("cancel", "--yes", site.program.stack)
    site.up().check()
    assert site.containers().keys() == clean.keys(), "nothing twice, nothing left over"
    for host in site.gpu_hosts():
        assert site.healthy(host)
        for name in host.containers(everything=True):
            assert f"E2E_MARK={mark}" in host.docker("inspect", name).stdout
    assert site.up().check().steps == {}
