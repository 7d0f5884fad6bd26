"""What a response of an engine means: the value of a method, or the error to raise."""

from __future__ import annotations

from typing import Any

from infinitic.codec.payloads import Coder
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.errors import (
    DeferredError,
    RequestRefusedError,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowTerminatedError,
    WorkflowUnknownError,
)
from infinitic.messages import client as responses
from infinitic.messages.outcomes import make_error


def read_outcome(
    response: responses.Response, name: str, spec: MethodSpec, workflow_id: str, coder: Coder | None
) -> Any:
    """Return the value that a method has ended with, or raise the error that it stands for.

    Args:
        response: what the engine answered.
        name: the workflow.
        spec: the method; its signature decodes the value.
        workflow_id: the instance, for errors.
        coder: decodes the payload; None if payloads are not encoded.

    Raises:
        WorkflowFailedError: the method raised an error.
        WorkflowCanceledError: the workflow, or the method, was cancelled.
        WorkflowTerminatedError: the workflow was terminated.
        WorkflowUnknownError: there is no such instance or method.
        RequestRefusedError: the instance takes no requests.
    """
    match response:
        case responses.MethodCompleted():
            value = response.value if coder is None else coder.decode(response.value)
            return spec.signature.decode_result(value)
        case responses.MethodFailed():
            failure = response.failure
            cause: DeferredError | None = None if failure.cause is None else make_error(failure.cause)
            raise WorkflowFailedError(name, spec.name, workflow_id, failure.exception, cause) from cause
        case responses.MethodCanceled():
            raise WorkflowCanceledError(name, spec.name, workflow_id)
        case responses.MethodTerminated(reason=reason):
            raise WorkflowTerminatedError(name, spec.name, workflow_id, reason)
        case _:
            raise make_unknown_error(response, name, spec.name, workflow_id)


def make_unknown_error(response: responses.Response, name: str, method: str, workflow_id: str) -> DeferredError:
    """Make the error to raise for a response that does not say that something was done."""
    if isinstance(response, responses.WorkflowUnknown | responses.Rejected) and response.reason:
        return RequestRefusedError(name, method, workflow_id, response.reason)
    return WorkflowUnknownError(name, method, workflow_id)
