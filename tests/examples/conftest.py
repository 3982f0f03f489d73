"""Each test of a program has Pulumi's runtime for itself, as those of tests/infra/."""

from tests.infra.conftest import engine_of_its_own as engine_of_its_own
