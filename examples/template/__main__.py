"""A fleet on the hosts of the configuration: canary first, one node after the other, no dropped request."""

import pulumi

from infra.package.args import FleetArgs
from infra.package.components import Fleet

config = pulumi.Config()

fleet = Fleet(
    pulumi.get_stack(),
    FleetArgs(
        nodes=[{"host": host.strip()} for host in config.require("hosts").split(",")],
        triton={"build": {}},  # NVIDIA's Triton with the Python packages of the models
        models={
            "source": "sync"
        },  # copies the package's models, or those of ./model_repository, to each host
        api_keys=[config.require("apiKey")],
    ),
)

pulumi.export("http", fleet.http)
pulumi.export("grpc", fleet.grpc)
