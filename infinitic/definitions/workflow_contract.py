"""A workflow as its callers see it: its name, its methods and its channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infinitic.codec.signatures import Signature
from infinitic.definitions.channels import Channel


@dataclass(frozen=True, slots=True, eq=False)
class MethodSpec:
    """One method that can be started. `total_timeout` is in seconds, for its callers."""

    attribute: str
    name: str
    signature: Signature
    total_timeout: float | None


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowContract:
    """What callers need of a workflow. `methods` and `channels` by attribute."""

    name: str
    methods: Mapping[str, MethodSpec]
    channels: Mapping[str, Channel[Any]]
