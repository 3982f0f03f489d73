"""Waveforms in system shared memory: slots in /dev/shm that Triton reads without their crossing a socket.

Every worker has files of its own there, named after a random token; a lock file, locked for as long as the
worker lives, tells the files of living workers from those that a killed one left behind (process ids do not:
containers that share /dev/shm have each their own).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import secrets
from collections.abc import Coroutine
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference_service.errors import NotReady, RuntimeFailed, RuntimeTimeout
from inference_service.runtimes.triton.client import TritonClient

_log = logging.getLogger(__name__)

FOLDER = Path("/dev/shm")
_PREFIX = "ai-inference-"

#: Slots come in powers of two from here …
_SMALLEST = 64 * 1024
#: … up to here (65 s at 16 kHz); larger ones are made for one request and not kept.
_LARGEST_KEPT = 4 * 1024 * 1024
#: From here on, making a slot (the kernel zeroes its pages) takes long enough for a thread.
_SLOW_BYTES = 16 * 1024 * 1024


class Slot:
    """A file in /dev/shm that Triton knows as `name`; `memory` is its bytes."""

    __slots__ = ("memory", "name", "size")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        descriptor = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # Other users' Triton must be able to read it, whatever the umask.
            os.fchmod(descriptor, 0o666)
            # Reserves the pages now: otherwise a full /dev/shm is a SIGBUS at the first write.
            os.posix_fallocate(descriptor, 0, size)
            self.memory = np.frombuffer(mmap.mmap(descriptor, size), dtype=np.uint8)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(descriptor)

    def array(self, count: int) -> NDArray[np.float32]:
        """The first `count` float32 values."""
        return self.memory[: 4 * count].view(np.float32)

    def unlink(self) -> None:
        """Remove the name; the memory goes when the last process has let go of it."""
        (FOLDER / self.name).unlink(missing_ok=True)


class SharedMemoryPool:
    """One worker's slots, made as requests need them, at most `limit` bytes in all."""

    def __init__(self, client: TritonClient, *, limit: int = 256 * 1024 * 1024, enabled: bool = True) -> None:
        self._client = client
        self._limit = limit
        self._usable = enabled
        self._enabled = enabled
        self._token = ""
        self._lock = -1
        self._counter = 0
        self._bytes = 0
        self._free: dict[int, list[Slot]] = {}
        self._all: dict[str, Slot] = {}
        self._resting: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def allocated(self) -> int:
        """Bytes in all slots, used and free."""
        return self._bytes

    async def attach(self) -> None:
        """Start using shared memory, at first and whenever Triton came back.

        Removes what killed workers left, here and in Triton. Raises NotReady when Triton is away.
        """
        if not self._enabled:
            return
        if self._lock < 0:
            try:
                self._token, self._lock = _lock_token()
            except OSError as error:
                self._refuse(f"{FOLDER} cannot be used: {error.strerror}")
                return
        _remove_leftovers()
        self._usable = True
        for name, key in (await self._client.registered()).items():
            if name.startswith(_PREFIX) and not (FOLDER / key.lstrip("/")).exists():
                await self._forget(name)

    async def acquire(self, size: int) -> Slot | None:
        """A slot of at least `size` bytes; None where the tensor must go over gRPC instead."""
        if not self._usable or self._lock < 0:
            return None
        size = slot_size(size)
        if free := self._free.get(size):
            return free.pop()
        if self._bytes + size > self._limit:
            self._evict(self._bytes + size - self._limit)
            if self._bytes + size > self._limit:
                return None
        self._counter += 1
        self._bytes += size
        try:
            return await self._make(f"{_PREFIX}{self._token}-{self._counter}", size)
        except OSError as error:
            self._bytes -= size
            _log.warning(
                "no shared memory for a tensor of %d bytes, sent over gRPC: %s", size, error.strerror
            )
            return None
        except RuntimeFailed as error:
            self._bytes -= size
            self._refuse(str(error))
            return None
        except BaseException:
            self._bytes -= size
            raise

    async def register(self, slot: Slot) -> None:
        """Make the slot known to Triton (again: a restarted one has forgotten it)."""
        await self._client.register(slot.name, f"/{slot.name}", slot.size)

    def release(self, slot: Slot) -> None:
        """Give a slot back that Triton no longer reads."""
        self._resting.discard(slot.name)
        if slot.size > _LARGEST_KEPT:
            self._discard(slot)
        else:
            self._free.setdefault(slot.size, []).append(slot)

    def rest(self, slot: Slot, seconds: float) -> None:
        """Give a slot back whose request was abandoned: Triton may read it for `seconds` more.

        Triton does not say when it is done with a cancelled request, so the slot rests for the longest that
        an inference may take. Unregistering it earlier would take the memory away under a running model.
        """
        self._resting.add(slot.name)
        asyncio.get_running_loop().call_later(seconds, self._wake, slot)

    def _wake(self, slot: Slot) -> None:
        if slot.name in self._resting:  # not closed meanwhile
            self.release(slot)

    async def close(self) -> None:
        """Unregister and remove every slot."""
        resting, self._resting = self._resting, set()
        slots, self._all, self._free, self._usable = list(self._all.values()), {}, {}, False
        for slot in slots:
            slot.unlink()
        if self._background:
            await asyncio.wait(self._background)
        # A resting slot stays registered: the next worker's `attach` finds that its file is gone.
        await asyncio.gather(*(self._forget(slot.name) for slot in slots if slot.name not in resting))
        if self._lock >= 0:
            (FOLDER / f"{_PREFIX}{self._token}.lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    async def _make(self, name: str, size: int) -> Slot:
        slot = await asyncio.to_thread(Slot, name, size) if size >= _SLOW_BYTES else Slot(name, size)
        try:
            await self.register(slot)
        except BaseException:
            slot.unlink()
            raise
        self._all[name] = slot
        return slot

    def _evict(self, size: int) -> None:
        """Let go of free slots, largest first, until `size` bytes are won or none is left."""
        for kept in sorted(self._free, reverse=True):
            while size > 0 and self._free[kept]:
                self._discard(self._free[kept].pop())
                size -= kept

    def _discard(self, slot: Slot) -> None:
        if self._all.pop(slot.name, None) is None:
            return
        self._bytes -= slot.size
        slot.unlink()
        self._in_background(self._forget(slot.name))

    async def _forget(self, name: str) -> None:
        try:
            await self._client.unregister(name)
        except NotReady:
            return  # Triton is away and has forgotten it
        except (RuntimeTimeout, RuntimeFailed) as error:
            # An abandoned request still reads it; any worker's next `attach` finds that its file is gone.
            _log.info("Triton keeps a shared memory region for now: %s", error)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _refuse(self, reason: str) -> None:
        if self._usable:
            _log.warning("waveforms go to Triton over gRPC, not through shared memory: %s", reason)
        self._usable = False


def slot_size(size: int) -> int:
    """The size of the slot for `size` bytes: a power of two while slots are kept, whole pages above."""
    if size <= _LARGEST_KEPT:
        return max(_SMALLEST, 1 << (size - 1).bit_length())
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _lock_token() -> tuple[str, int]:
    """A new token with its lock file locked: (token, the lock's file descriptor)."""
    while True:
        token = secrets.token_hex(6)
        path = FOLDER / f"{_PREFIX}{token}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # another worker, starting now, may have taken the new file for a leftover
            return token, descriptor
        os.close(descriptor)


def _remove_leftovers() -> None:
    """Remove the files of workers that are no more."""
    for path in FOLDER.glob(f"{_PREFIX}*.lock"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # gone already, or another user's
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for leftover in FOLDER.glob(f"{path.stem}-*"):
                leftover.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        except OSError:
            continue  # locked: its worker lives
        finally:
            os.close(descriptor)
