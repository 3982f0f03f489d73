"""One node and a gateway with names of their own. First: pulumi config set host ssh://root@192.0.2.10"""

import pulumi

from infra.package.args import GatewayArgs, NodeArgs
from infra.package.components import Gateway, Node

config = pulumi.Config()
host = config.require("host")
# Encrypted with: pulumi config set --secret apiKey KEY
key = config.get_secret("apiKey")
keys = pulumi.Output.all(key) if key is not None else []

speech = Node(
    "speech",
    NodeArgs(
        host=host,
        gpus=[0],
        triton={"build": {}, "memory": "16g"},
        service={"workers": 1},
        models={"source": "sync"},
        api_keys=keys,
    ),
)
entrance = Gateway("entrance", GatewayArgs(host=host, http=8080, nodes=[speech.upstream], api_keys=keys))

pulumi.export("http", entrance.http)
pulumi.export("grpc", entrance.grpc)
