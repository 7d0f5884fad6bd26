"""A Pulsar of a test's own, from `services/pulsar.sh`, on free ports."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

SERVICES = Path(__file__).parents[2] / "services"
JARS = Path(os.environ.get("PULSAR_JARS", SERVICES / "var" / "pulsar" / "jars"))


class PrivatePulsar:
    """Started, restarted and killed by its script."""

    def __init__(self, folder: Path) -> None:
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in sockets]
        self.broker = f"pulsar://127.0.0.1:{ports[0]}"
        self.web = f"http://127.0.0.1:{ports[1]}"
        names = ("PULSAR_PORT", "PULSAR_WEB_PORT", "PULSAR_BOOKIE_PORT")
        self._environment = {
            **os.environ,
            **{name: str(port) for name, port in zip(names, ports, strict=True)},
            "SERVICES_DIR": str(folder),
            "PULSAR_JARS": str(JARS),
        }
        self._environment.pop("PULSAR_ADMIN_URL", None)

    @staticmethod
    def missing() -> str:
        """What is not there to start one; empty if nothing."""
        java = os.environ.get("JAVA_HOME")
        if not shutil.which(f"{java}/bin/java" if java else "java"):
            return "There is no java for a private Pulsar: make services"
        return "" if JARS.is_dir() else f"There are no jars of Pulsar at {JARS}: make services"

    def do(self, verb: str) -> None:
        """Run a verb of the script."""
        done = subprocess.run(
            [SERVICES / "pulsar.sh", verb],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=150.0,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
