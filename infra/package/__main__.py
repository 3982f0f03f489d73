"""Serves the components to the Pulumi engine, for programs in every language."""

from pulumi.provider.experimental import component_provider_host

from infra.package.components import Fleet, Gateway, Node

if __name__ == "__main__":
    component_provider_host([Node, Gateway, Fleet], "gpu-inference")
