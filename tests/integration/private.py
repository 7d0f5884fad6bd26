"""Database servers of the tests' own, by the scripts in `services/`: on a free port, with data of their own."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from infinitic.storage import Storage
from tests.integration.pulsar.secured import SERVICES
from tests.integration.storages.databases import DEDUPLICATION_WINDOW, HOST, Place, need
from tests.required import absent

SCRIPTS = {"postgres": "postgres", "mysql": "mariadb", "redis": "redis"}


class PrivateServer:
    """One server of a kind, not started yet. `arguments` are added to its command."""

    def __init__(self, kind: str, folder: Path, arguments: str = "") -> None:
        need(kind)  # where nobody has started servers, nobody wants these
        self._kind = kind
        self._folder = folder
        self._name = SCRIPTS[kind]
        with socket.socket() as free:
            free.bind((HOST, 0))
            self.port: int = free.getsockname()[1]
        prefix = self._name.upper()
        self._environ = os.environ | {
            "SERVICES_DIR": str(folder),
            f"{prefix}_PORT": str(self.port),
            f"{prefix}_ARGS": arguments,
        }
        lacks = self.do("missing").split()
        if lacks:
            absent(f"not installed: {', '.join(lacks)}")

    def do(self, verb: str) -> str:
        """A verb of the script, as start, kill and wipe."""
        command = [str(SERVICES / f"{self._name}.sh"), verb]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def storage(self, *, deduplication_window: float = DEDUPLICATION_WINDOW) -> Storage:
        """A storage on it."""
        settings = {"database": "infinitic"} if self._kind == "mysql" else {}
        return Place(self._kind, "private", self._folder).storage(
            deduplication_window=deduplication_window, port=self.port, **settings
        )

    def end(self) -> None:
        """Nothing of it is left."""
        self.do("kill")
        self.do("wipe")
