"""The double of Pulumi's engine is as strict as the engine."""

from __future__ import annotations

import pulumi
import pytest
from pulumi.runtime.mocks import set_mocks

from tests.infra.declared import Engine, Fleet, Monitor

pytestmark = pytest.mark.fast


def test_a_urn_that_is_declared_twice_is_refused() -> None:
    set_mocks(Engine(), project="gpu-inference", stack="prod", preview=True, monitor=Monitor(Fleet()))

    @pulumi.runtime.test
    def run() -> None:
        pulumi.ComponentResource("gpu-inference:index:Node", "gpu-1")
        pulumi.ComponentResource("gpu-inference:index:Node", "gpu-1")

    with pytest.raises(Exception, match=r"declared twice: urn:pulumi:prod.*Node::gpu-1"):
        run()
