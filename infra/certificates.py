"""The certificates of a stack's own authority, all made from the authority's private key.

The same key, name and time give the same certificates, byte for byte, so only the key has to be kept: an
update that finds nothing to renew changes nothing. Time is cut into periods of two thirds of a certificate's
life. A certificate is valid from the begin of its period, so at least a third of its life is left while an
update declares it; the first update of the next period renews it. Certificates of different periods trust
each other, because the authority's key stays.
"""

import datetime
import hashlib
import ipaddress
import math
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra import names

#: With whether each is critical.
_Extensions = list[tuple[x509.ExtensionType, bool]]
_CURVE = ec.SECP256R1()
_ORDER = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
#: Days that the authority's own certificate is valid; renewed with the same key.
_AUTHORITY_DAYS = 7300
#: Clocks of hosts may be behind.
_EARLIER = datetime.timedelta(days=1)
_SHARE = 2 / 3


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its private key and the authority that its peers have, all PEM."""

    certificate: str
    key: str = field(repr=False)
    authority: str


def make_authority() -> str:
    """The private key of a new authority, PEM."""
    return _pem(ec.generate_private_key(_CURVE))


def node_identity(
    authority: str, stack: str, node: str, address: str, days: int, now: datetime.datetime
) -> Identity:
    """A node's certificate, for the address that the gateway dials. `authority` is its private key."""
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        alternative = x509.DNSName(address.rstrip("."))
    purpose: _Extensions = [
        (x509.SubjectAlternativeName([x509.DNSName(names.NODE_TLS_NAME), alternative]), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    return _identity(authority, stack, f"node {node}", days, now, purpose)


def gateway_identity(authority: str, stack: str, days: int, now: datetime.datetime) -> Identity:
    """The certificate with which the gateway shows nodes who it is. `authority` is its private key."""
    return _client(authority, stack, names.GATEWAY, days, now)


def prometheus_identity(authority: str, stack: str, days: int, now: datetime.datetime) -> Identity:
    """The certificate with which the stack's Prometheus reads nodes. `authority` is its private key."""
    return _client(authority, stack, names.PROMETHEUS, days, now)


def _client(authority: str, stack: str, name: str, days: int, now: datetime.datetime) -> Identity:
    purpose: _Extensions = [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)]
    return _identity(authority, stack, name, days, now, purpose)


def _identity(
    authority: str,
    stack: str,
    name: str,
    days: int,
    now: datetime.datetime,
    purpose: _Extensions,
) -> Identity:
    signer = _read(authority)
    begin = _begin(days, now)
    key = _derived(signer, f"key {name} {begin:%Y-%m-%d} {days}")
    extensions: _Extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        *purpose,
    ]
    certificate = _signed(signer, stack, name, key.public_key(), begin, days, extensions)
    return Identity(certificate, _pem(key), _authority_certificate(signer, stack, now))


def _authority_certificate(signer: ec.EllipticCurvePrivateKey, stack: str, now: datetime.datetime) -> str:
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    extensions: _Extensions = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), False),
    ]
    begin = _begin(_AUTHORITY_DAYS, now)
    return _signed(signer, stack, _AUTHORITY, signer.public_key(), begin, _AUTHORITY_DAYS, extensions)


_AUTHORITY = "authority"


def _signed(
    signer: ec.EllipticCurvePrivateKey,
    stack: str,
    name: str,
    key: ec.EllipticCurvePublicKey,
    begin: datetime.datetime,
    days: int,
    extensions: _Extensions,
) -> str:
    serial = hashlib.sha256(f"{stack}/{name}/{begin}/{days}/{extensions}".encode() + _point(key)).digest()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(stack, name))
        .issuer_name(_name(stack, _AUTHORITY))
        .public_key(key)
        .serial_number(int.from_bytes(serial[:16]) >> 1 or 1)
        .not_valid_before(begin - _EARLIER)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True)
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _begin(days: int, now: datetime.datetime) -> datetime.datetime:
    """When the period of certificates of that life began."""
    period = max(1, math.floor(days * _SHARE)) * 86400
    return datetime.datetime.fromtimestamp(int(now.timestamp()) // period * period, datetime.UTC)


def _derived(signer: ec.EllipticCurvePrivateKey, info: str) -> ec.EllipticCurvePrivateKey:
    """The private key of that name: nobody without the authority's key can know it."""
    own = signer.private_numbers().private_value.to_bytes(32)
    derived = HKDF(hashes.SHA256(), 48, salt=None, info=info.encode()).derive(own)
    return ec.derive_private_key(int.from_bytes(derived) % (_ORDER - 1) + 1, _CURVE)


def _name(stack: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"gpu-inference {stack}"[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:64]),
        ]
    )


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _read(authority: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(authority.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
