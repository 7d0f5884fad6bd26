"""Makes docs/conformance.md: `python -m tests.conformance.matrix > docs/conformance.md`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from infinitic.transport import Capabilities
from infinitic_testing.conformance.storage import storage_rules
from infinitic_testing.conformance.transport import transport_rules
from infinitic_testing.conformance.transport_rules import TRANSPORT_RULES
from infinitic_transports.memory import InMemoryTransport
from infinitic_transports.pulsar import PulsarTransport
from tests.conformance.storage_campaign import MUTANTS as STORAGE_MUTANTS
from tests.conformance.transport_campaign import NO_MUTANT
from tests.conformance.transport_mutants import MUTANTS

HEAD = """# Conformance

What an adapter must keep is a public suite that anybody can run on theirs (see [testing](testing.md)). Each suite is
itself tested: adapters that are broken on purpose, its *mutants*, must fail it. This page is generated:
`python -m tests.conformance.matrix > docs/conformance.md`.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def transports() -> dict[str, Capabilities]:
    """What the adapters say that they keep."""
    return {"in-memory": InMemoryTransport().capabilities, "Pulsar": PulsarTransport().capabilities}


def transport_section() -> str:
    """Rules, tests, mutants and adapters of the Transport port."""
    tests, adapters = transport_rules(), transports()
    rows: list[list[str]] = []
    for rule, sentence in TRANSPORT_RULES.items():
        told = [test.split("_", 3)[3].replace("_", " ") for test in tests.get(rule, [])]
        killed = [f"`{mutant.name}`" for mutant in MUTANTS if rule in mutant.kills]
        support = [each.support(rule).value if told else "–" for each in adapters.values()]
        rows.append([rule, sentence, "<br>".join(told) or "–", "<br>".join(killed) or "–", *support])
    exceptions = "\n".join(f"- {rule} kills no mutant: {reason}." for rule, reason in NO_MUTANT.items())
    faults = table(
        ["mutant", "fault", "rules that must fail"], ([f"`{m.name}`", m.fault, " ".join(m.kills)] for m in MUTANTS)
    )
    return f"""## Transports

The suite is `infinitic_testing.conformance.transport.TransportConformance`. A rule that an adapter keeps with best
effort is run too, and whether it held is recorded. RED-4, RED-5, RED-6 and ORD-14 are kept by the runtime over the
adapter. FLO-4 has no test: the port gives no way to fill a broker.

{table(["rule", "what", "tests", "mutants that it kills", *adapters], rows)}

{exceptions}

### Mutants of the transports

{faults}
"""


STORAGES = {
    "in-memory": "guaranteed; gone with the process (STO-5)",
    "PostgreSQL": "guaranteed",
    "MySQL, MariaDB": "guaranteed",
    "SQLite": "guaranteed; with `synchronous: normal` a power cut may undo the last commits (STO-5)",
    "Redis": "guaranteed; STO-5 only with `appendfsync always`",
}


def storage_section() -> str:
    """Rules, tests and mutants of the Storage port. Every adapter is held to every rule."""
    rows: list[list[str]] = []
    for rule, tests in storage_rules().items():
        prefix = "test_" + rule.lower().replace("-", "_") + "_"
        told = [test.removeprefix(prefix).removeprefix("test_").replace("_", " ") for test in tests]
        killed = [f"`{mutant.name}`" for mutant in STORAGE_MUTANTS if rule in mutant.kills]
        rows.append([rule, "<br>".join(told), "<br>".join(killed) or "–"])
    faults = table(
        ["mutant", "fault", "rules that must fail"],
        ([f"`{m.name}`", " ".join(m.fault.split()), " ".join(m.kills)] for m in STORAGE_MUTANTS),
    )
    return f"""## Storages

The suite is `infinitic_testing.conformance.storage.StorageConformance`. What the port gives no way to see is tested
beside it: pools, wrong credentials, newer schemas, servers that are killed (`tests/integration`).

{table(["adapter", "rules"], ([name, kept] for name, kept in STORAGES.items()))}

{table(["rule", "tests", "mutants that it kills"], rows)}

### Mutants of the storages

{faults}
"""


SECTIONS: list[Callable[[], str]] = [transport_section, storage_section]


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section() for section in SECTIONS)])


if __name__ == "__main__":
    sys.stdout.write(page())
