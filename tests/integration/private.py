"""Private servers of tests, by the scripts in `services/`: on free ports, with their own data."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from infinitic.storage import Storage
from tests.integration.storages.databases import DEDUPLICATION_WINDOW, HOST, Place, need
from tests.required import absent

SERVICES = Path(__file__).parents[2] / "services"
SECONDS = 330.0
"""Seconds that a verb of a script may take. A Pulsar on a busy machine takes minutes to start."""


def find_free_ports(number: int) -> list[int]:
    """Find ports that are free now. They are held at the same time, so that they differ."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in held:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in held]


class PrivateServer:
    """A server that one test has to itself. It is not started yet.

    Args:
        script: the name of its script in `services/`, without the suffix.
        folder: where its data are.
        ports: the names of the variables by which the script takes its ports.
        environ: other variables for the script.
    """

    def __init__(self, script: str, folder: Path, ports: Sequence[str], environ: dict[str, str]) -> None:
        self._script = SERVICES / f"{script}.sh"
        self.folder = folder
        self.ports = dict(zip(ports, find_free_ports(len(ports)), strict=True))
        named = {name: str(port) for name, port in self.ports.items()}
        self._environ: dict[str, str] = dict(os.environ) | {"SERVICES_DIR": str(folder)} | named | environ
        lacks = self.do("missing").split()
        if lacks:
            absent(f"not installed: {', '.join(lacks)}")

    def do(self, verb: str) -> str:
        """Run a verb of the script: start, restart, kill, wipe. Return what it prints."""
        done = subprocess.run(
            [str(self._script), verb],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def end(self) -> None:
        """End it, and remove its data."""
        self.do("kill")
        self.do("wipe")


class PrivateDatabase(PrivateServer):
    """A database server.

    Args:
        kind: "postgres", "mysql" or "redis".
        folder: where its data are.
        arguments: added to its command.
    """

    def __init__(self, kind: str, folder: Path, arguments: str = "") -> None:
        # Where nobody has started servers, nobody wants private ones.
        need(kind)
        self._kind = kind
        script = "mariadb" if kind == "mysql" else kind
        prefix = script.upper()
        super().__init__(script, folder, [f"{prefix}_PORT"], {f"{prefix}_ARGS": arguments})
        self.port = self.ports[f"{prefix}_PORT"]

    def storage(self, *, deduplication_window: float = DEDUPLICATION_WINDOW) -> Storage:
        """Make a storage on it."""
        settings = {"database": "infinitic"} if self._kind == "mysql" else {}
        place = Place(self._kind, "private", self.folder)
        return place.storage(deduplication_window=deduplication_window, port=self.port, **settings)


class PrivatePulsar(PrivateServer):
    """A Pulsar.

    Args:
        folder: where its data are.
        environ: variables for the script.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        java = os.environ.get("JAVA_HOME")
        if not shutil.which(f"{java}/bin/java" if java else "java"):
            absent("There is no java for a private Pulsar: make services")
        jars = Path(os.environ.get("PULSAR_JARS", SERVICES / "var" / "pulsar" / "jars"))
        if not jars.is_dir():
            absent(f"There are no jars of Pulsar at {jars}: make services")
        ports = ("PULSAR_PORT", "PULSAR_WEB_PORT", "PULSAR_BOOKIE_PORT")
        super().__init__("pulsar", folder, ports, {"PULSAR_JARS": str(jars)} | environ)
        # The one of the shared broker would be asked instead of this one.
        self._environ.pop("PULSAR_ADMIN_URL", None)
        self.broker = f"pulsar://{HOST}:{self.ports['PULSAR_PORT']}"
        self.web = f"http://{HOST}:{self.ports['PULSAR_WEB_PORT']}"
