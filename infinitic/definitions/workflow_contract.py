"""A workflow as its callers see it: its name, its methods, its channels and its queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infinitic.codec.signatures import Signature
from infinitic.definitions.channels import Channel
from infinitic.definitions.queries import QuerySpec


@dataclass(frozen=True, slots=True, eq=False)
class MethodSpec:
    """One method that can be started. `total_timeout` is in seconds, for its callers."""

    attribute: str
    name: str
    signature: Signature
    total_timeout: float | None


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowContract:
    """What callers need of a workflow. `attributes` are its methods; all are by attribute."""

    name: str
    attributes: Mapping[str, MethodSpec]
    channels: Mapping[str, Channel[Any]]
    queries: Mapping[str, QuerySpec]
