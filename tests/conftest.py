"""What all tests share: how hypothesis runs, and the event loop of asynchronous tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import hypothesis
import pytest

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile(
    "project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests that are coroutines run in asyncio's event loop."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all tests.

    gRPC has one queue for the event loops of a process: a late answer for a loop that was closed is an
    error in the next one.
    """
    yield
