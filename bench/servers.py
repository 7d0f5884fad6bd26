"""Where the servers of `make services` are, and the storages to measure on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from infinitic.plugins import load_storage_plugin, load_transport_plugin
from infinitic.storage import Storage
from infinitic.transport import Transport

HOST = "127.0.0.1"
PULSAR = os.environ.get("INFINITIC_PULSAR_URL", f"pulsar://{HOST}:6650")
PULSAR_WEB = os.environ.get("INFINITIC_PULSAR_WEB_URL", f"http://{HOST}:8080")
POSTGRES_PORT = os.environ.get("INFINITIC_POSTGRES_PORT", "5432")
POSTGRES = f"host={HOST} port={POSTGRES_PORT} user=infinitic password=infinitic dbname=infinitic"
DEDUPLICATION_WINDOW = 14 * 86_400.0

PORTS: Mapping[str, int] = {
    "postgres": int(POSTGRES_PORT),
    "mysql": int(os.environ.get("INFINITIC_MARIADB_PORT", "3306")),
    "redis": int(os.environ.get("INFINITIC_REDIS_PORT", "6379")),
}
STORAGES = ("postgres", "mysql", "redis", "sqlite")
ONLY_SQLITE = "only-sqlite"
"""Broker and database in one SQLite file, and no server."""

_DATABASE = {"host": HOST, "username": "infinitic", "password": "infinitic"}


def transport_settings(namespace: str) -> dict[str, object]:
    """What stands under `pulsar` in a configuration."""
    return {
        "broker_service_url": PULSAR,
        "web_service_url": PULSAR_WEB,
        "tenant": "infinitic",
        "namespace": namespace,
    }


def storage_settings(name: str, label: str, folder: Path) -> dict[str, object]:
    """Return the settings of a storage, with a schema, prefix or file of its own."""
    match name:
        case "postgres":
            return {"port": PORTS[name], "database": "infinitic", "schema": label, **_DATABASE}
        case "mysql":
            return {"port": PORTS[name], "database": "infinitic", "table_prefix": f"{label}_", **_DATABASE}
        case "redis":
            return {"host": HOST, "port": PORTS[name], "key_prefix": label}
        case _:
            return {"path": str(folder / f"{label}.db")}


def transport(namespace: str) -> Transport:
    """A connection to Pulsar."""
    plugin = load_transport_plugin("pulsar")
    return plugin.from_settings(
        plugin.Settings.model_validate(transport_settings(namespace)), deduplication_window=DEDUPLICATION_WINDOW
    )


def broker(database: str, label: str, folder: Path) -> Transport:
    """A connection to the broker that goes with a database."""
    if database != ONLY_SQLITE:
        return transport(label)
    plugin = load_transport_plugin("sqlite")
    settings = plugin.Settings.model_validate(storage_settings(database, label, folder))
    return plugin.from_settings(settings, deduplication_window=DEDUPLICATION_WINDOW)


def storage(name: str, label: str, folder: Path) -> Storage:
    """A connection to this database."""
    name = "sqlite" if name == ONLY_SQLITE else name
    plugin = load_storage_plugin(name)
    settings = plugin.Settings.model_validate(storage_settings(name, label, folder))
    return plugin.from_settings(settings, deduplication_window=DEDUPLICATION_WINDOW)
