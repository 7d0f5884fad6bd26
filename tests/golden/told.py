"""Samples of events for listeners."""

from __future__ import annotations

from infinitic.messages import cloud_events

AT = 5.5
TOLD = [
    cloud_events.EventData(
        workflow_name="Trip",
        workflow_id="w",
        workflow_version=1,
        run=1,
        method_name="book",
        method_id="m",
        service_name="Flights",
        task_name="book",
        task_id="w-1",
        position=1,
        retry_sequence=1,
        retry_index=2,
        delay_seconds=1.5,
        worker_name="w1",
        channel_name="approvals",
        remote_workflow_name="Invoice",
        remote_workflow_id="i",
        tag="eu",
        due="2030-01-01T00:00:00Z",
        activation=3,
        by="ada",
        reason="no",
        error=cloud_events.EventError("shop.NoStock", "none left"),
        tags=("eu",),
        custom_id="order-42",
    )
]
"""The data of events for listeners."""


def encode(data: cloud_events.EventData) -> str:
    """Encode an event with this data, as a message of its own."""
    kind = cloud_events.EventType.WORKFLOW_DISPATCH
    event = cloud_events.encode_event("w/3/0", "/workflows/Trip", kind, "w", cloud_events.format_time(AT), data)
    return b"".join(cloud_events.join_pieces([event])).decode()
