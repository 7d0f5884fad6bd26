"""Wake-ups between processes: a datagram says in which subscriptions there may be something.

They are a short cut. Whoever gets none, because it is too busy or because its system has no such
sockets, looks by itself a few times a second.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from infinitic_transports.sqlite.sessions import derive_socket_path

_LONGEST = 100
"""Bytes of the path of a socket that every system takes."""

_MOST = 64
"""Subscriptions that one datagram names. More than that is everything."""


class WakeUps:
    """A socket that is woken by others, and wakes them.

    Args:
        folder: where the sockets are.
        name: of this session.
        wake: called with the numbers of subscriptions; with none, everything may have changed.
    """

    def __init__(self, folder: Path, name: str, wake: Callable[[list[int]], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._directory: int | None = None
        self._path = derive_socket_path(folder, name)
        if not hasattr(socket, "AF_UNIX"):
            return
        # Without one, as when no more files may be open, it looks by itself.
        with suppress(OSError):
            self._bind(name)

    def _bind(self, name: str) -> None:
        if sys.platform == "linux":
            # A short path to the same place: that of a socket may have 108 bytes.
            self._directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        address = self._find_address(name)
        if address is None:
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.bind(address)
        except BaseException:
            made.close()
            raise
        self._socket = made

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to be woken, on this loop. A loop that cannot do that is not woken."""
        if self._socket is not None:
            with suppress(NotImplementedError):
                loop.add_reader(self._socket.fileno(), self._read)
                self._loop = loop

    def send(self, names: Iterable[str], subscriptions: Iterable[int]) -> None:
        """Wake sessions.

        Args:
            names: of the sessions.
            subscriptions: where there may be something; none: anything may have changed.
        """
        if self._socket is None:
            return
        numbers = list(subscriptions)
        text = array("q", numbers if len(numbers) <= _MOST else []).tobytes()
        for name in names:
            address = self._find_address(name)
            if address is not None:
                # It is gone, or has more of them than it can take: it looks by itself.
                with suppress(OSError):
                    self._socket.sendto(text, address)

    def close(self, *, remove: bool = True) -> None:
        """Stop. Idempotent."""
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            if remove:
                with suppress(OSError):
                    self._path.unlink()
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def _find_address(self, name: str) -> str | None:
        path = derive_socket_path(self._folder, name)
        if self._directory is not None:
            return f"/proc/self/fd/{self._directory}/{path.name}"
        text = os.fspath(path)
        return text if len(os.fsencode(text)) <= _LONGEST else None

    def _read(self) -> None:
        numbers: list[int] = []
        everything = False
        with suppress(BlockingIOError):
            for _ in range(1000):
                if self._socket is None:
                    return
                text = self._socket.recv(8 * _MOST)
                everything = everything or not text
                numbers += array("q", text[: len(text) // 8 * 8])
        if everything or numbers:
            self._wake([] if everything else numbers)
