"""Real servers for tests: where they are, and what happens when one is missing.

`only-sqlite` among the databases is broker and database in one file. It needs no server.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from bench import servers
from tests.required import IS_REQUIRED, reach
from tests.thorough import IS_THOROUGH

DATABASES = (*servers.STORAGES, servers.ONLY_SQLITE)


def need(*databases: str) -> None:
    """Go on if these databases answer, and Pulsar, if it goes with them.

    Otherwise the test fails where servers are required, and is skipped elsewhere.
    """
    if databases == (servers.ONLY_SQLITE,):
        if not IS_THOROUGH and not IS_REQUIRED:
            pytest.skip("it needs no server, but a minute for all: INFINITIC_THOROUGH=1")
        return
    wanted = {"Pulsar": urlsplit(servers.PULSAR).port or 6650}
    wanted |= {name: servers.PORTS[name] for name in databases if name in servers.PORTS}
    for name, port in wanted.items():
        reach(name, f"//{servers.HOST}:{port}")


def configuration(database: str, label: str, folder: Path, **roles: object) -> str:
    """The text of a configuration file on this database, and the broker that goes with it."""
    stored = servers.storage_settings(database, label, folder)
    alone = database == servers.ONLY_SQLITE
    return yaml.safe_dump(
        {
            "transport": {"sqlite": stored} if alone else {"pulsar": servers.transport_settings(label)},
            "storage": {"sqlite" if alone else database: stored},
            **roles,
        },
        sort_keys=False,
    )
