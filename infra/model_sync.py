"""State written before 0.1.0 deletes models by this module's name. Remove it in 0.2.0."""

import runpy

runpy.run_module("infra.steps.models", run_name="__main__", alter_sys=True)
