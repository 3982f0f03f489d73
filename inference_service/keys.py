"""API keys, as HTTP headers, WebSocket handshakes and gRPC metadata carry them."""

import hashlib
import hmac

from pydantic import SecretStr

from inference_service.errors import Unauthorized


class Keys:
    """The accepted API keys. Only their hashes are compared, so response times reveal nothing about a key."""

    def __init__(self, keys: list[SecretStr]) -> None:
        self._hashes = [hashlib.sha256(key.get_secret_value().encode("utf-8")).digest() for key in keys]

    def check(self, api_key: str | None, authorization: str | None) -> None:
        """Raises Unauthorized unless `api_key`, or the bearer token of `authorization`, is an accepted key.

        Without accepted keys every request passes.
        """
        if not self._hashes:
            return
        given = api_key
        if given is None and authorization is not None:
            kind, _, token = authorization.partition(" ")
            given = token.strip() if kind.lower() == "bearer" else None
        if given is None:
            raise Unauthorized("an API key is needed: Authorization: Bearer <key>, or X-API-Key: <key>")
        offered = hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest()
        # Compares all keys, even after a match.
        if not sum(hmac.compare_digest(offered, accepted) for accepted in self._hashes):
            raise Unauthorized("the API key is not one that is accepted here")
