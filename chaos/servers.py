"""Private servers, by the scripts in `services/`: on free ports, with their own data."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

HOST = "127.0.0.1"
SERVICES = Path(__file__).parents[1] / "services"
SECONDS = 330.0
"""Seconds that a verb of a script may take. A Pulsar on a busy machine takes minutes to start."""

LOWEST_PORT = 15_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class ServerMissing(Exception):
    """What a private server needs is not on this machine. The text says what it is."""


class ServerFailed(Exception):
    """A verb of a server failed. The text is what its script said."""


def find_free_ports(number: int) -> list[int]:
    """Find ports that are free now. They are held at the same time, so that they differ.

    They are none that the system gives to outgoing connections: while a server is down, such a
    connection could take its port.
    """
    highest = 30_000
    if _EPHEMERAL.exists():
        highest = max(LOWEST_PORT + 1000, int(_EPHEMERAL.read_text(encoding="ascii").split()[0]))
    drawn = random.Random()
    with ExitStack() as stack:
        held = list[int]()
        while len(held) < number:
            port = drawn.randrange(LOWEST_PORT, highest)
            free = stack.enter_context(socket.socket())
            try:
                free.bind((HOST, port))
            except OSError:
                continue
            held.append(port)
        return held


class PrivateServer:
    """A server that nobody else uses. It is not started yet.

    Args:
        script: the name of its script in `services/`, without the suffix.
        folder: where its data are.
        ports: the names of the variables by which the script takes its ports.
        environ: other variables for the script.

    Raises:
        ServerMissing: it is not installed.
    """

    def __init__(self, script: str, folder: Path, ports: Sequence[str], environ: dict[str, str]) -> None:
        self._script = SERVICES / f"{script}.sh"
        self._name = script
        self.folder = folder
        self.ports = dict(zip(ports, find_free_ports(len(ports)), strict=True))
        named = {name: str(port) for name, port in self.ports.items()}
        self._environ: dict[str, str] = dict(os.environ) | {"SERVICES_DIR": str(folder)} | named | environ
        lacks = self.do("missing").split()
        if lacks:
            raise ServerMissing(f"not installed: {', '.join(lacks)}")

    def do(self, verb: str, **environ: str) -> str:
        """Run a verb of the script: start, stop, restart, kill, wipe. Return what it prints.

        Args:
            verb: which one.
            environ: other variables for this call.

        Raises:
            ServerFailed: the verb failed.
        """
        done = subprocess.run(
            [str(self._script), verb],
            env=self._environ | environ,
            # Ctrl-C is for the campaign, which ends its servers in good order.
            start_new_session=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"{self._name} {verb}: {done.stdout}{done.stderr}")
        return done.stdout

    def end(self) -> None:
        """End it, and remove its data."""
        self.do("kill")
        self.do("wipe")

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Within this it neither answers nor goes away: all its processes stand still."""
        process = int((self.folder / self._name / "pid").read_text(encoding="ascii"))
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
        processes = [process, *(int(child) for child in children.split())]
        for each in processes:
            _send(each, signal.SIGSTOP)
        try:
            yield
        finally:
            for each in processes:
                _send(each, signal.SIGCONT)


def _send(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        # A child of the server has ended by itself.
        return


class PrivateDatabase(PrivateServer):
    """A database server.

    Attributes:
        port: its port.

    Args:
        kind: "postgres", "mysql" or "redis".
        folder: where its data are.
        arguments: added to its command.

    Raises:
        ServerMissing: it is not installed.
    """

    def __init__(self, kind: str, folder: Path, arguments: str = "") -> None:
        script = "mariadb" if kind == "mysql" else kind
        prefix = script.upper()
        super().__init__(script, folder, [f"{prefix}_PORT"], {f"{prefix}_ARGS": arguments})
        self.port = self.ports[f"{prefix}_PORT"]


class PrivatePulsar(PrivateServer):
    """A Pulsar.

    Attributes:
        broker: its URL for messages.
        web: its URL for REST.

    Args:
        folder: where its data are.
        environ: variables for the script.

    Raises:
        ServerMissing: it is not installed.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        java = os.environ.get("JAVA_HOME")
        if not shutil.which(f"{java}/bin/java" if java else "java"):
            raise ServerMissing("There is no java for a private Pulsar: make services")
        jars = Path(os.environ.get("PULSAR_JARS", SERVICES / "var" / "pulsar" / "jars"))
        if not jars.is_dir():
            raise ServerMissing(f"There are no jars of Pulsar at {jars}: make services")
        ports = ("PULSAR_PORT", "PULSAR_WEB_PORT", "PULSAR_BOOKIE_PORT")
        super().__init__("pulsar", folder, ports, {"PULSAR_JARS": str(jars)} | environ)
        # The one of the shared broker would be asked instead of this one.
        self._environ.pop("PULSAR_ADMIN_URL", None)
        self.broker = f"pulsar://{HOST}:{self.ports['PULSAR_PORT']}"
        self.web = f"http://{HOST}:{self.ports['PULSAR_WEB_PORT']}"
