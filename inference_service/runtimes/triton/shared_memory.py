"""Waveforms in system shared memory: slots in /dev/shm that Triton reads, so that no socket carries them.

Every worker has its own files there, named after a random token, and holds a lock on a lock file as long as
it lives. So a new worker can tell the files of living workers from those of killed ones. Process ids would
not do: each of the containers that share /dev/shm has its own.
"""

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

from inference_service.errors import NotReady, RuntimeFailed
from inference_service.runtimes.triton.client import TritonClient

_log = logging.getLogger(__name__)

FOLDER = Path("/dev/shm")
_PREFIX = "ai-inference-"

#: Other users could read and change the audio. A Triton of another user needs the service's group: it opens
#: a region for reading and writing.
_MODE = 0o660

#: Slots come in powers of two from here …
_SMALLEST = 64 * 1024
#: … up to here (65 s at 16 kHz); larger ones are made for one request and not kept.
_LARGEST_KEPT = 4 * 1024 * 1024
#: Slots from this size are made in a thread: the kernel zeroes their pages.
_SLOW_BYTES = 16 * 1024 * 1024


class Slot:
    """A file in /dev/shm that Triton knows as `name`; `memory` is its bytes."""

    __slots__ = ("memory", "name", "size")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        descriptor = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, _MODE)
        try:
            os.fchmod(descriptor, _MODE)  # whatever the umask
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
        """Remove the file; the kernel frees the memory when no process maps it any more."""
        (FOLDER / self.name).unlink(missing_ok=True)


class SharedMemoryPool:
    """One worker's slots, made as requests need them, at most `limit` bytes in all."""

    def __init__(self, client: TritonClient, *, limit: int = 256 * 1024 * 1024, enabled: bool = True) -> None:
        self._client = client
        self._limit = limit
        self._enabled = enabled
        self._usable = False  # until `attach`, and while Triton refuses it
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
        """Start using shared memory, after every start of Triton.

        Removes the files and registrations of killed workers. Raises NotReady if Triton is unreachable.
        """
        if not self._enabled:
            return
        self._usable = True
        try:
            if self._lock < 0:
                self._token, self._lock = _lock_token()
        except OSError as error:
            self._refuse(f"{FOLDER} cannot be used: {error.strerror}")
            return
        _remove_leftovers()
        for name, key in (await self._client.registered()).items():
            if name.startswith(_PREFIX) and not (FOLDER / key.lstrip("/")).exists():
                await self._forget(name)

    async def acquire(self, size: int) -> Slot | None:
        """A slot of at least `size` bytes; None where the tensor must go over gRPC instead."""
        if not self._usable:
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
        except BaseException as error:
            self._bytes -= size
            if isinstance(error, OSError):
                _log.warning("no shared memory for %d bytes, sent over gRPC: %s", size, error.strerror)
            elif isinstance(error, RuntimeFailed):
                self._refuse(str(error))
            else:
                raise
            return None

    async def register(self, slot: Slot) -> None:
        """Register the slot in Triton; again after a restart of Triton."""
        await self._client.register(slot.name, f"/{slot.name}", slot.size)

    def release(self, slot: Slot) -> None:
        """Return a slot that Triton no longer reads."""
        self._resting.discard(slot.name)
        if slot.name not in self._all:
            return  # the pool was closed meanwhile
        if slot.size > _LARGEST_KEPT:
            self._discard(slot)
        else:
            self._free.setdefault(slot.size, []).append(slot)

    def rest(self, slot: Slot, seconds: float) -> None:
        """Return the slot of an abandoned request, which Triton may still read: reuse it after `seconds`.

        Triton does not report the end of a cancelled request, so `seconds` is the longest time of an
        inference; it begins again while Triton does not answer. Unregistering the slot earlier would take the
        memory away from a running model.
        """
        self._resting.add(slot.name)

        def ended() -> None:
            if slot.name in self._all:  # else the pool was closed meanwhile
                self._in_background(self._release_or_rest(slot, seconds))

        asyncio.get_running_loop().call_later(seconds, ended)

    async def _release_or_rest(self, slot: Slot, seconds: float) -> None:
        try:
            await self._client.registered()
        except (NotReady, RuntimeFailed):
            # A server that hangs goes on where it stopped: it may read the slot after any time.
            self.rest(slot, seconds)
        else:
            self.release(slot)

    async def close(self) -> None:
        """Unregister and remove every slot."""
        resting, self._resting = self._resting, set()
        slots, self._all, self._free, self._usable = list(self._all.values()), {}, {}, False
        for slot in slots:
            slot.unlink()
        if self._background:
            await asyncio.wait(self._background)
        # A resting slot stays registered; the next worker's `attach` unregisters it, as its file is gone.
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
        """Discard free slots, largest first, until `size` bytes are freed or none is left."""
        for kept in sorted(self._free, reverse=True):
            while size > 0 and self._free[kept]:
                self._discard(self._free[kept].pop())
                size -= kept

    def _discard(self, slot: Slot) -> None:
        del self._all[slot.name]
        self._bytes -= slot.size
        slot.unlink()
        self._in_background(self._forget(slot.name))

    async def _forget(self, name: str) -> None:
        try:
            await self._client.unregister(name)
        except (NotReady, RuntimeFailed) as error:
            # Triton is away, or an abandoned request still reads the region. A later `attach` unregisters it,
            # as its file is gone.
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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # else another worker that starts now has removed it as a leftover
            return token, descriptor
        os.close(descriptor)


def _remove_leftovers() -> None:
    """Remove the files of workers that no longer run."""
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
