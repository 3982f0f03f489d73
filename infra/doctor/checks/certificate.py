"""The gateway's certificate: for which names it is, until when, and whether this computer trusts it."""

import contextlib
import datetime
import ssl
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from infra.doctor.answers import failing
from infra.doctor.findings import Outcome, Status, ok, problem, warning
from infra.doctor.host_access import Unreachable, dial_from_here
from infra.doctor.sites.gateway import GatewaySite
from infra.doctor.web import unverified

_WARNING = datetime.timedelta(days=21)


async def certificate(gateway: GatewaySite) -> Outcome:
    """Whether the served certificate is valid for the gateway's name, and for how long."""
    host, port, tls = gateway.server.address, gateway.server.port, gateway.stack.gateway.tls
    assert tls is not None
    with failing(gateway.log):
        served = await fetch(host, port)
    remedy = f"renew {tls.certificate} on the gateway's host, then {gateway.reload}"
    outcome = expiry(served.not_valid_after_utc, datetime.datetime.now(datetime.UTC), remedy)
    if outcome.status is Status.OK and not covers(names(served), gateway.public_host):
        return warning(
            f"the certificate is for {', '.join(names(served)) or 'no name'}, not for {gateway.public_host}",
            "set gateway.publicHost to a name of the certificate, or get a certificate for that name",
        )
    if outcome.status is Status.OK and (refusal := await _refusal(host, port)):
        # An authority of one's own is no fault, but clients have to be told to trust it.
        return ok(f"{outcome.seen}; this computer does not trust it by itself: {refusal}")
    return outcome


async def fetch(address: str, port: int) -> x509.Certificate:
    """The certificate that is served at `address`:`port`, unverified. Raises Unreachable."""
    async with dial_from_here(address, port, ssl=unverified()) as stream:
        connection: ssl.SSLObject = stream.writer.get_extra_info("ssl_object")
        encoded = connection.getpeercert(binary_form=True)
    assert encoded is not None
    return x509.load_der_x509_certificate(encoded)


def names(certificate: x509.Certificate) -> list[str]:
    """The host names and IP addresses that a certificate is for; the common name where it lists none."""
    alternatives: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        alternatives += extension.get_values_for_type(x509.DNSName)
        alternatives += map(str, extension.get_values_for_type(x509.IPAddress))
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return alternatives or [str(name.value) for name in common]


def covers(names: Sequence[str], host: str) -> bool:
    """Whether a certificate for these names is one for the host."""
    matching = {host.lower(), f"*.{host.lower().partition('.')[2]}"}
    return any(name.lower() in matching for name in names)


def expiry(
    expires: datetime.datetime,
    now: datetime.datetime,
    remedy: str,
    at_most: datetime.timedelta = _WARNING,
) -> Outcome:
    """Whether a certificate that expires then is valid, and stays so for 21 days or, if less, `at_most`."""
    left = expires - now
    if left.total_seconds() <= 0:
        return problem(f"the certificate expired on {expires:%Y-%m-%d}", remedy)
    if left < min(_WARNING, at_most):
        return warning(f"the certificate expires on {expires:%Y-%m-%d}, in {left.days} days", remedy)
    return ok(f"valid until {expires:%Y-%m-%d}")


async def _refusal(address: str, port: int) -> str | None:
    """Why a client that trusts only the system's authorities refuses the certificate, if it does."""
    try:
        async with dial_from_here(address, port, ssl=ssl.create_default_context()):
            return None
    except Unreachable as error:
        cause = error.__cause__
        return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else None
