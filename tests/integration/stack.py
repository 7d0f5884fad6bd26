"""Real servers for tests: where they are, and what happens when one is missing."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import yaml

from bench import servers
from tests.required import reach

DATABASES = servers.STORAGES


def need(*databases: str) -> None:
    """Go on if Pulsar and these databases answer.

    Otherwise the test fails where servers are required, and is skipped elsewhere.
    """
    wanted = {"Pulsar": urlsplit(servers.PULSAR).port or 6650}
    wanted |= {name: servers.PORTS[name] for name in databases if name in servers.PORTS}
    for name, port in wanted.items():
        reach(name, f"//{servers.HOST}:{port}")


def configuration(database: str, label: str, folder: Path, **roles: object) -> str:
    """The text of a configuration file on Pulsar and this database."""
    return yaml.safe_dump(
        {
            "transport": {"pulsar": servers.transport_settings(label)},
            "storage": {database: servers.storage_settings(database, label, folder)},
            **roles,
        },
        sort_keys=False,
    )
