"""The certificates of a stack's authority: the same ones again, renewed in time, for one purpose each."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from infra import names
from infra.certificates import Identity, gateway_identity, make_authority, node_identity

pytestmark = pytest.mark.fast

KEY = make_authority()
NOW = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)


def node(now: datetime.datetime = NOW, days: int = 730, key: str = KEY) -> Identity:
    return node_identity(key, "prod", "gpu-1", "192.0.2.11", days, now)


def read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def handshake(server: Identity, client: Identity, folder: Path, name: str = names.NODE_TLS_NAME) -> None:
    """A TLS handshake in memory, each side verifying the other. Raises ssl.SSLError."""
    contexts = []
    for role, identity, protocol in (
        ("server", server, ssl.PROTOCOL_TLS_SERVER),
        ("client", client, ssl.PROTOCOL_TLS_CLIENT),
    ):
        (folder / f"{role}.pem").write_text(identity.certificate)
        (folder / f"{role}.key").write_text(identity.key)
        context = ssl.SSLContext(protocol)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # a client's certificate is refused in the handshake
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(folder / f"{role}.pem", folder / f"{role}.key")
        context.load_verify_locations(cadata=identity.authority)
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        contexts[1].wrap_bio(to_client, to_server, server_hostname=name),
        contexts[0].wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_the_same_key_name_and_period_give_the_same_certificate() -> None:
    assert node() == node(NOW + datetime.timedelta(hours=1))


def test_another_authority_gives_another_key() -> None:
    assert node().key != node(key=make_authority()).key


def test_a_third_of_the_life_is_left_at_least_and_the_next_period_renews() -> None:
    renewals = 0
    before = node(days=9)
    for day in range(60):
        now = NOW + datetime.timedelta(days=day)
        found = node(now, days=9)
        certificate = read(found.certificate)
        assert certificate.not_valid_before_utc <= now
        assert certificate.not_valid_after_utc - now >= datetime.timedelta(days=3)
        renewals += found != before
        before = found
    assert renewals in (9, 10)


def test_a_nodes_certificate_is_for_its_address_and_the_common_name() -> None:
    found = read(node().certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in found.get_values_for_type(x509.IPAddress)] == ["192.0.2.11"]
    assert found.get_values_for_type(x509.DNSName) == [names.NODE_TLS_NAME]
    named = node_identity(KEY, "prod", "gpu-1", "gpu-1.example.com", 730, NOW)
    found = read(named.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == [names.NODE_TLS_NAME, "gpu-1.example.com"]


def test_node_and_gateway_trust_each_other_also_across_a_renewal(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    renewed = gateway_identity(KEY, "prod", 90, now)
    older = gateway_identity(KEY, "prod", 90, now - datetime.timedelta(days=60))
    assert older != renewed
    lasting = read(older.certificate).not_valid_after_utc > now
    for gateway in (renewed, *([older] if lasting else [])):
        handshake(node(now, days=90), gateway, tmp_path)


@pytest.mark.parametrize("wrong", ["another authority", "a node as client", "another name"])
def test_a_peer_of_another_kind_is_refused(tmp_path: Path, wrong: str) -> None:
    client = gateway_identity(KEY, "prod", 730, NOW)
    if wrong == "another authority":
        # The gateway knows the node, but another authority made the gateway's certificate.
        other = gateway_identity(make_authority(), "prod", 730, NOW)
        client = Identity(other.certificate, other.key, client.authority)
    elif wrong == "a node as client":
        client = node()
    with pytest.raises(ssl.SSLError):
        handshake(node(), client, tmp_path, "other.example.com" if wrong == "another name" else "192.0.2.11")


def test_the_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(node())
