"""What a check expects of an answer; without it the check ends with a problem."""

from collections.abc import Awaitable, Collection, Iterator
from contextlib import contextmanager

from infra.doctor.advice import advice
from infra.doctor.findings import Failed, problem
from infra.doctor.host_access import NoAnswer, Unreachable
from infra.doctor.web import Answer


@contextmanager
def failing(remedy: str, seen: str = "{error}") -> Iterator[None]:
    """End the check with a problem where the block finds nothing reachable or gets no answer.

    `seen` is what the check then shows, with `{error}` in the place of the reason.
    """
    try:
        yield
    except (Unreachable, NoAnswer) as error:
        raise Failed(problem(seen.format(error=error), remedy)) from None


async def expected(
    request: Awaitable[Answer],
    remedy: str,
    *,
    unreachable: str = "{error}",
    refused: str = "{error}",
    statuses: Collection[int] = (200,),
) -> Answer:
    """The answer to a request. Raises Failed where there is none, or one of another status.

    `unreachable` and `refused` are what the check then shows, with `{error}` in the place of the reason. A
    refusal whose words are known has its own remedy.
    """
    with failing(remedy, unreachable):
        answer = await request
    if answer.status not in statuses:
        seen = refused.format(error=answer.reason)
        raise Failed(problem(seen, advice(seen, remedy)))
    return answer
