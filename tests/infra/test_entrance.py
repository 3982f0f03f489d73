"""The step that waits for a gateway asks by the gateway's own address, on the gateway's host."""

from __future__ import annotations

import pytest

from infra.connection import HERE
from infra.steps.entrance import Entrance, Silent, wait
from tests.infra.conftest import Double

pytestmark = pytest.mark.fast


def entrance(timeout: int = 5) -> Entrance:
    return Entrance(
        gateway="gateway@192.0.2.1",
        connection=HERE,
        container="prod-gateway",
        url="http://192.0.2.1:8080/health",
        options=("--insecure",),
        timeout=timeout,
    )


def test_it_asks_until_the_gateway_answers(double: Double, tmp_path: object) -> None:
    calls = double("curl", f'[ "$(wc -l <{tmp_path}/doubles/curl.calls)" -ge 3 ]')
    wait(entrance())
    assert len(calls.read_text().splitlines()) == 3
    assert calls.read_text().splitlines()[0].endswith("--insecure http://192.0.2.1:8080/health")


def test_a_gateway_that_stays_silent_is_named_with_the_reason_and_its_log(double: Double) -> None:
    double("curl", 'echo "curl: (7) Failed to connect" >&2; exit 7')
    double("docker", '[ "$1" = inspect ] && echo exited || echo emerg: bind failed >&2')
    with pytest.raises(Silent) as caught:
        wait(entrance(timeout=0))
    assert "gateway@192.0.2.1 does not answer at http://192.0.2.1:8080/health within 0 s" in str(caught.value)
    assert "curl: (7) Failed to connect" in str(caught.value)
    assert "exited\nemerg: bind failed" in str(caught.value)
