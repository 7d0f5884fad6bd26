"""A project in a folder, and the commands of Infinitic on it as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.storages.databases import HOST, MARIADB_PORT, POSTGRES_PORT, REDIS_PORT, USER, Place

CODE = """
from infinitic import Workflow

class Payments:
    async def pay(self) -> str:
        return "paid"

class Trip(Workflow):
    async def go(self) -> str:
        return "gone"
"""
LIMIT = 120.0


def storage(place: Place, **more: Any) -> dict[str, Any]:
    """The section of a place, with other values for some keys."""
    if place.kind == "sqlite":
        return {"sqlite": {"path": str(place.path)} | more}
    if place.kind == "redis":
        return {"redis": {"host": HOST, "port": REDIS_PORT, "key_prefix": place.label} | more}
    own = {"postgres": ("schema", POSTGRES_PORT), "mysql": ("database", MARIADB_PORT)}[place.kind]
    return {place.kind: USER | {own[0]: place.label, "port": own[1]} | more}


class Folder:
    """The project. `write` makes its file, which YAML takes as JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "shop_for_doctor.py").write_text(CODE, encoding="utf-8")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONHASHSEED", "INFINITIC_"))}
        self._environ = {**kept, "PYTHONPATH": os.pathsep.join([str(path), *filter(None, sys.path)])}

    def write(self, pulsar: dict[str, Any], storage: dict[str, Any], **more: Any) -> None:
        document = more | {
            "transport": {"pulsar": pulsar},
            "storage": storage,
            "services": [{"name": "Payments", "executor": {"class": "shop_for_doctor.Payments"}}],
            "workflows": [{"name": "Trip", "executor": {"class": "shop_for_doctor.Trip"}, "state_engine": {}}],
        }
        (self.path / "infinitic.yml").write_text(json.dumps(document), encoding="utf-8")

    def start(self, *verb: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "infinitic", *verb, "--config", "infinitic.yml"],
            cwd=self.path,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *verb: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        with self.start(*verb) as process:
            try:
                out, errors = process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert "Traceback" not in out + errors, errors
        return process.returncode, out, errors

    def doctor(self) -> tuple[int, list[dict[str, str]]]:
        """Exit code and findings."""
        code, out, errors = self.run("doctor", "--json")
        assert errors == ""
        checks: list[dict[str, str]] = json.loads(out)["checks"]
        return code, checks

    def failure(self) -> dict[str, str]:
        """The one failure that the doctor finds, in one line and with what to do."""
        code, checks = self.doctor()
        failures = [each for each in checks if each["level"] == "failure"]
        assert code == 1
        assert len(failures) == 1, failures
        assert failures[0]["remedy"]
        assert "\n" not in failures[0]["message"]
        return failures[0]
