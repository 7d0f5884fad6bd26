"""Public conformance suites: what every adapter of a port has to keep.

Subclass one, and let pytest collect it.
"""

import pytest

# It has to come before the modules are imported.
pytest.register_assert_rewrite(
    "infinitic_testing.conformance.shared_commit",
    *(
        f"infinitic_testing.conformance.storage_{part}"
        for part in ("bench", "commit", "races", "read", "find", "life", "model", "tags", "claims", "process")
    ),
    *(
        f"infinitic_testing.conformance.transport_{part}"
        for part in ("bench", "delays", "exclusive", "flow", "keys", "life", "peek", "persistence", "process")
    ),
    *(
        f"infinitic_testing.conformance.transport_{part}"
        for part in ("retry", "runtime", "several", "watch", "workers")
    ),
)

from infinitic_testing.conformance.shared_commit import (  # noqa: E402
    SharedCommitConformance as SharedCommitConformance,
)
from infinitic_testing.conformance.storage import StorageConformance as StorageConformance  # noqa: E402
from infinitic_testing.conformance.storage_bench import StorageBackend as StorageBackend  # noqa: E402
from infinitic_testing.conformance.transport import TransportConformance as TransportConformance  # noqa: E402
