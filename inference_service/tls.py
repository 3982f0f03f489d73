"""Mutual TLS of a node's second listeners: the same certificates for HTTP and for gRPC."""

import ssl
import tempfile
from pathlib import Path

import grpc

from inference_service.settings.types import ServerTlsSettings


def context(settings: ServerTlsSettings) -> ssl.SSLContext | None:
    """What HTTP listens with; None without certificates. Raises OSError for what cannot be used."""
    if (files := _read(settings)) is None:
        return None
    certificate, key, client_ca = files
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    # Python reads certificates of its own from files only. This one is readable by its owner.
    with tempfile.NamedTemporaryFile() as chain:
        chain.write(key + b"\n" + certificate)
        chain.flush()
        made.load_cert_chain(chain.name)
    made.load_verify_locations(cadata=client_ca.decode())
    made.set_alpn_protocols(["http/1.1"])
    return made


def grpc_credentials(settings: ServerTlsSettings) -> grpc.ServerCredentials | None:
    """What gRPC listens with; None without certificates. Raises OSError for files that cannot be read."""
    if (files := _read(settings)) is None:
        return None
    certificate, key, client_ca = files
    return grpc.ssl_server_credentials([(key, certificate)], client_ca, require_client_auth=True)


def _read(settings: ServerTlsSettings) -> tuple[bytes, bytes, bytes] | None:
    """The certificate, its key and the clients' authority as PEM. Raises OSError with the file's name."""
    if settings.files is None:
        return None
    certificate, key, client_ca = map(_pem, settings.files)
    return certificate, key, client_ca


def _pem(given: str) -> bytes:
    """The text, or the content of the file at that path."""
    return given.encode() if given.lstrip().startswith("-----BEGIN") else Path(given).read_bytes()
