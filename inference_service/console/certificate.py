"""When the certificate of a server ends. The console reads no certificate itself: OpenSSL does."""

import asyncio
import ssl
from typing import Any
from urllib.parse import urlsplit


async def ends(url: str, seconds: float) -> float | None:
    """When the certificate of the server at an https URL ends, in Unix time: 0 when it has ended.

    None where the server does not answer within `seconds`, or its certificate is not valid yet.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        async with asyncio.timeout(seconds):
            # Python describes a certificate that it has verified, and this one may be of any authority.
            certificate = await _asked(host, port, unverified(), encoded=True)
            itself = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(certificate))
            itself.check_hostname = False
            itself.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            told = await _asked(host, port, itself, encoded=False)
    except ssl.SSLCertVerificationError as error:
        return 0.0 if error.verify_code == _HAS_EXPIRED else None
    except (OSError, ValueError):  # TimeoutError is an OSError
        return None
    return float(ssl.cert_time_to_seconds(told["notAfter"]))


#: OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED.
_HAS_EXPIRED = 10


def unverified() -> ssl.SSLContext:
    """For a server whose certificate is for another name than the one that is asked."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _asked(host: str, port: int, context: ssl.SSLContext, *, encoded: bool) -> Any:
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        return writer.get_extra_info("ssl_object").getpeercert(encoded)
    finally:
        writer.transport.abort()
