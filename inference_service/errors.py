"""Every error of the service, with its HTTP status and its gRPC status code in one place."""

from collections.abc import Sequence
from typing import ClassVar


class ServiceError(Exception):
    """A request that cannot be answered. `str(error)` is the reason for the client.

    `status` is the HTTP status and the envelope's `code`. `grpc_code` names a `grpc.StatusCode`.
    """

    status: ClassVar[int]
    grpc_code: ClassVar[str]


class BadRequest(ServiceError):
    """The request is invalid: its JSON, base64, audio or a field, which the reason names."""

    status = 400
    grpc_code = "INVALID_ARGUMENT"


class Unauthorized(ServiceError):
    """The API key is missing or wrong, and keys are set."""

    status = 401
    grpc_code = "UNAUTHENTICATED"


class Forbidden(ServiceError):
    """A web page of an origin that the operator has not listed."""

    status = 403
    grpc_code = "PERMISSION_DENIED"


class NotFound(ServiceError):
    """No such route, or no such task id."""

    status = 404
    grpc_code = "NOT_FOUND"


class SlowUpload(ServiceError):
    """The request's body did not arrive within its time limit."""

    status = 408
    grpc_code = "DEADLINE_EXCEEDED"


class TooLarge(ServiceError):
    """The body or the audio is over its limit."""

    status = 413
    grpc_code = "INVALID_ARGUMENT"


class UnsupportedMedia(ServiceError):
    """A media type that the route does not read."""

    status = 415
    grpc_code = "INVALID_ARGUMENT"


class UnsupportedCoding(UnsupportedMedia):
    """A body that is packed in a way that the service does not unpack."""


class Unsupported(ServiceError):
    """The node's runtime cannot do this task."""

    status = 501
    grpc_code = "UNIMPLEMENTED"


class NotHere(Unsupported):
    """The node does not serve all of the `asked` tasks, by name. Another node may."""

    def __init__(self, reason: str, asked: Sequence[str]) -> None:
        super().__init__(reason)
        self.asked = tuple(asked)


class Busy(ServiceError):
    """The node is full. It may have room after `retry_after` seconds."""

    status = 503
    grpc_code = "RESOURCE_EXHAUSTED"
    #: How each reason begins, so that a remote node tells a full node from one that is not ready.
    BEGINS: ClassVar[str] = "the node is full"

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Draining(ServiceError):
    """The node is about to stop and takes no new work. Another node will."""

    status = 503
    grpc_code = "UNAVAILABLE"


class NotReady(ServiceError):
    """The runtime cannot be reached, or the model is not loaded."""

    status = 503
    grpc_code = "UNAVAILABLE"


class RuntimeLost(NotReady):
    """The runtime ended or began to hang while it worked on the request, perhaps because of the request.

    The request has run, so a gateway asks one more node and no third one.
    """


class RuntimeFailed(ServiceError):
    """The runtime answered with a failure, or with an invalid answer: it will do so again, at any node.

    Not 503, because a gateway would try a 503 at every node and count it as each node's own failure.
    """

    status = 500
    grpc_code = "INTERNAL"


class Loop(ServiceError):
    """The request has come back to a node that forwarded it."""

    status = 508
    grpc_code = "FAILED_PRECONDITION"


class StoreFailed(ServiceError):
    """The store of results cannot be used: its disk is full, or its file is damaged."""

    status = 500
    grpc_code = "INTERNAL"


class RuntimeTimeout(ServiceError):
    """The runtime took longer than the model's or the request's time limit."""

    status = 504
    grpc_code = "DEADLINE_EXCEEDED"


class StreamIdle(ServiceError):
    """A stream without a chunk sent or a result read for the idle timeout."""

    status = 408
    grpc_code = "DEADLINE_EXCEEDED"
