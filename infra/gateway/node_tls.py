"""How the gateway's nginx proves to nodes who it is, and knows them."""

from dataclasses import dataclass

from infra import names
from infra.gateway.checks import check_path


@dataclass(frozen=True, slots=True)
class NodeTls:
    """The gateway's certificate and key, and the authority of the nodes' certificates (PEM): absolute paths
    on the gateway. Every node's certificate is also for `name`: nginx checks one name for an upstream."""

    certificate: str
    key: str
    authority: str
    name: str = names.NODE_TLS_NAME

    def __post_init__(self) -> None:
        for key in ("certificate", "key", "authority"):
            check_path(getattr(self, key), f"node_tls.{key}")
