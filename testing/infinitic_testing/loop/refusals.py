"""The methods of a loop that do not work in virtual time. Each one says what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from infinitic.errors import UsageError

NO_THREADS = "call the function directly, or mock the service that blocks"
"""What to do instead of using a thread."""

# What to do instead of the methods of a loop that do not work in virtual time.
_REFUSED_METHODS = {
    NO_THREADS: "run_in_executor set_default_executor",
    "use the in-memory transport and storage, or mock the service": """
        add_reader add_writer remove_reader remove_writer connect_accepted_socket connect_read_pipe
        connect_write_pipe create_connection create_datagram_endpoint create_server create_unix_connection
        create_unix_server getaddrinfo getnameinfo sendfile sock_accept sock_connect sock_recv sock_recv_into
        sock_recvfrom sock_recvfrom_into sock_sendall sock_sendfile sock_sendto start_tls""",
    "mock the service that starts the process": "subprocess_exec subprocess_shell",
    "cancel the task, or call the handler directly": "add_signal_handler remove_signal_handler",
}


def explain_refusal(what: str, instead: str) -> str:
    """Say that something does not work in virtual time, and what to do instead."""
    return f"{what} does not work in virtual time, because two runs could differ: {instead}"


def refuse_methods(loop_class: type) -> None:
    """Replace the methods of a loop class that need threads, sockets, signals or processes."""
    for instead, names in _REFUSED_METHODS.items():
        for name in names.split():
            setattr(loop_class, name, _make_refusal(name, instead))


def _make_refusal(name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: object, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(explain_refusal(f"loop.{name}()", instead))

    return refuse
