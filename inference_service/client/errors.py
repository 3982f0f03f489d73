"""Errors of the client; `str(error)` is for its user."""

from inference_service.addresses import GATEWAY_HTTP_PORT

_ADDRESS = f"--url http://HOST:{GATEWAY_HTTP_PORT}"


class ClientError(Exception):
    """The recording cannot be read, or the service refused it.

    The text gives the reason, and `remedy` what to do, as a sentence; empty where the reason says it.
    """

    remedy = ""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy or self.remedy


class Refused(ClientError):
    """The service takes no request of this client, whatever the recording: the key is wrong."""

    remedy = "Give the API key of the fleet: SPEECH_API_KEY=KEY in the environment, or --api-key KEY"


class Unavailable(ClientError):
    """No node can answer now. A retry may succeed a little later, on another node."""

    remedy = "Try again later; fleet status shows the nodes"


class Unreachable(Unavailable):
    """Nothing answers at the address."""

    remedy = f"Start the fleet (fleet up), or name its address: {_ADDRESS} (SPEECH_URL)"


_UNKNOWN_FORMAT = "For audio without a header: --input-format, --rate. Others: ffmpeg -i FILE file.wav"
_REMEDIES = {
    404: f"Give the gateway's or node's address alone, without a path: {_ADDRESS}",
    413: "Cut the recording (ffmpeg -i FILE -f segment -segment_time 1500 part-%03d.flac), or stream it: "
    "--partial 0",
    415: _UNKNOWN_FORMAT,
}


def refusal(url: str, reason: str, status: int) -> ClientError:
    """The error for an HTTP status of the service at `url`."""
    text = f"{url}: {reason} (HTTP {status})"
    if status in (401, 403):
        return Refused(text)
    if status in (429, 502, 503, 504):
        return Unavailable(text)
    return ClientError(
        text, _UNKNOWN_FORMAT if "format is not recognised" in reason else _REMEDIES.get(status, "")
    )
