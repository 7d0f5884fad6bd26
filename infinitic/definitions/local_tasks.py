"""Which tasks can be local: run by the state engine of the same worker, inside its step."""

from __future__ import annotations

from infinitic.errors import RegistrationError

LONGEST_SECONDS = 5.0
"""For how long the local tasks of one step may hold it up."""


def check_local(
    where: str, total_timeout: float | None, batch: object, heartbeat_timeout: float | None, *, delegated: bool
) -> None:
    """Check that a task can be local.

    Args:
        where: the method, for the error.
        total_timeout: seconds that the caller waits for it; None: for ever.
        batch: its batch method; None: it has none.
        heartbeat_timeout: that of the task, in seconds; None: it has none.
        delegated: whether somebody outside ends it.

    Raises:
        RegistrationError: it cannot. The message says why.
    """
    why = ""
    if batch is not None:
        why = "it has a batch: a batch collects tasks of many workflows, which come as messages"
    elif delegated:
        why = "it is delegated: somebody outside ends it, which takes longer than a step may"
    elif heartbeat_timeout is not None:
        why = "it has a heartbeat_timeout: that is for long tasks, and a local task holds up its workflow"
    elif total_timeout is not None and total_timeout > LONGEST_SECONDS:
        why = (
            f"its total_timeout of {total_timeout:g} s is above {LONGEST_SECONDS:g} s, for which local tasks may hold "
            "up a step of their workflow"
        )
    if why:
        raise RegistrationError(f"{where} cannot be local, since {why}. Give it @task(local=False), or leave it out")
