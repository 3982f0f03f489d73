"""Results by task id, for a limited time, shared by all workers of the node."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

from inference_service.errors import StoreFailed

_T = TypeVar("_T")

_SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=OFF;
CREATE TABLE IF NOT EXISTS analyses
(task_id TEXT PRIMARY KEY, status TEXT, result_type TEXT, result_data TEXT, confidence REAL, created_at REAL);
CREATE INDEX IF NOT EXISTS by_age ON analyses (created_at);
"""


@dataclass(frozen=True, slots=True)
class Analysis:
    """One answer of GetAIAnalysis. The fields are the columns of the table."""

    task_id: str
    status: str  # ok, partial or error
    result_type: str  # a Task's value
    result_data: str  # JSON
    confidence: float | None  # None where the model gives none
    created_at: float  # seconds since the epoch


class ResultStore:
    """Analyses by task id in one SQLite file that the workers share.

    A later analysis replaces an earlier one with the same id. Beyond `max_entries` the oldest are deleted,
    and each is deleted after `ttl` seconds. The file is a cache of the running node, so it is not synced to
    disk.
    """

    def __init__(self, directory: Path, *, max_entries: int, ttl: float) -> None:
        self._path = directory / "results.sqlite3"
        self._max_entries = max_entries
        self._ttl = ttl
        # One thread owns the connection, so the event loop never waits for another worker's lock.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="results")
        self._connection: sqlite3.Connection | None = None

    async def put(self, analysis: Analysis) -> None:
        """Store `analysis` under its task id. Raises StoreFailed."""
        await self._run(
            lambda: self._execute(
                ("INSERT OR REPLACE INTO analyses VALUES (?, ?, ?, ?, ?, ?)", astuple(analysis)),
                ("DELETE FROM analyses WHERE created_at < ?", (time.time() - self._ttl,)),
                (
                    "DELETE FROM analyses WHERE task_id IN"
                    " (SELECT task_id FROM analyses ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
                    (self._max_entries,),
                ),
            )
        )

    async def get(self, task_id: str) -> Analysis | None:
        """The result under `task_id`; None if there is none or it is too old. Raises StoreFailed."""
        oldest = time.time() - self._ttl
        rows = await self._run(
            lambda: self._execute(
                ("SELECT * FROM analyses WHERE task_id = ? AND created_at >= ?", (task_id, oldest))
            )
        )
        return Analysis(*rows[0]) if rows else None

    async def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        if self._connection is not None:
            await self._run(self._connection.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(f"the store of results: {error}") from error

    def _execute(self, *statements: tuple[str, tuple[Any, ...]]) -> list[Any]:
        """Execute the statements; returns the rows of the last one."""
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None)
            self._connection.executescript(_SCHEMA)
        for statement, values in statements:
            rows = self._connection.execute(statement, values).fetchall()
        return rows
