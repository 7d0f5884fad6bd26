"""Decodes the arguments and values of a run that a payload codec has coded."""

from __future__ import annotations

from msgspec import Raw
from msgspec.structs import replace

from infinitic.codec.payloads import Coder
from infinitic.replay.run import Run, RunMethod, RunStep


def decode_run(run: Run, coder: Coder) -> Run:
    """Decode all payloads of a run. Those that no codec has coded stay as they are.

    Args:
        run: the document.
        coder: the chain of codecs.

    Raises:
        DecodingError: a payload can never be decoded.
        PayloadUnavailable: a payload cannot be decoded now.
    """
    return replace(
        run,
        methods=tuple(_decode_method(method, coder) for method in run.methods),
        steps=tuple(_decode_step(step, coder) for step in run.steps),
    )


def _decode_method(method: RunMethod, coder: Coder) -> RunMethod:
    return replace(method, arguments=_decode(method.arguments, coder), value=_decode(method.value, coder))


def _decode_step(step: RunStep, coder: Coder) -> RunStep:
    return replace(step, arguments=_decode(step.arguments, coder), value=_decode(step.value, coder))


def _decode(payload: Raw, coder: Coder) -> Raw:
    # What is empty stays the same object: so that it is left out when the document is written.
    return Raw(coder.decode(payload)) if bytes(payload) else payload
