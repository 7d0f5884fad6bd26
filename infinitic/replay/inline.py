"""Functions that workflow code calls once: what came of them is recorded, and given again in replay."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from infinitic import ids
from infinitic.codec.values import ValueCodec, value_codec
from infinitic.definitions.service_contract import result_hint
from infinitic.errors import (
    PayloadError,
    PayloadTooLargeError,
    RegistrationError,
    TaskFailedError,
    TaskFailure,
    UsageError,
)
from infinitic.failures import describe, qualified_name
from infinitic.limits import MAX_VALUE_DEPTH, is_deeper, too_deep
from infinitic.messages.commands import RecordInline
from infinitic.messages.outcomes import MethodFailure, cause_of, fit_method
from infinitic.replay.recorder import Recorder

_REFUSALS = {qualified_name(cls): cls for cls in (UsageError, PayloadError, PayloadTooLargeError, RegistrationError)}


class InlineRecorder(Recorder):
    """A recorder that calls functions, and records what they returned or raised."""

    run: int

    def inline(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function once and record what came of it; in replay, give what was recorded."""
        name = getattr(function, "__qualname__", type(function).__qualname__)
        codec = value_codec(result_hint(function))
        position = self._next()
        command = RecordInline(position, name)
        if self._recorded is None:
            command = self._call_inline(command, codec, function, args, kwargs)
        elif self._recorded and isinstance(self._recorded[0], RecordInline):
            command = RecordInline(position, name, self._recorded[0].value, self._recorded[0].failure)
        self._command(command)
        if command.failure is None:
            return codec.decode(bytes(self._unsealed(command.value)))
        failure = command.failure.exception
        refusal = _REFUSALS.get(failure.name)
        if refusal is not None:
            raise refusal(failure.message)
        task_id = ids.task_id(self.id, self.run, position)
        raise TaskFailedError("inline", name, task_id, TaskFailure(failure, at=self.loop.now))

    def _call_inline(
        self,
        command: RecordInline,
        codec: ValueCodec,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> RecordInline:
        self._inline, self._recording, self.loop.sealed = True, False, True
        try:
            value = function(*args, **kwargs)
            if inspect.iscoroutine(value):
                value.close()
                raise UsageError(f"inline takes a plain function; {command.name} is a coroutine function: use a task")
            data = self._sealed(codec.encode(value))
            if is_deeper(data, MAX_VALUE_DEPTH):
                raise PayloadTooLargeError(too_deep(f"The result of inline {command.name}"))
            self._asked += len(data)
            if self._limits is not None and self._asked > self._limits.activation:
                asked, self._asked = self._asked, self._asked - len(data)
                raise PayloadTooLargeError(
                    f"The result of inline {command.name}: with its {len(data):,} bytes, what is asked for at once has "
                    f"{asked:,} bytes, above the limit of {self._limits.activation:,} bytes"
                )
            if self._limits is not None and self._asked + self._asked_before > self._limits.activation:
                self._overflow()
            return RecordInline(command.position, command.name, Raw(data))
        except Exception as error:  # noqa: BLE001 (recorded, whatever it is)
            failure = MethodFailure(describe(error), cause_of(error))
            if self._limits is not None:
                failure = fit_method(failure, self._limits.call)
            return RecordInline(command.position, command.name, failure=failure)
        finally:
            self._inline, self._recording, self.loop.sealed = False, True, False
