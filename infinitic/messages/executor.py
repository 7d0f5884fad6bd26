"""To workflow executors, in split mode only: activations of instances, and questions to them.

On the wire: n number of the activation · v version of the instance, absent until its first decision
· w when · e stimuli · o one by one · g digest of the decision before · q sequence of the last
segment before this activation · x meta · k epoch · f first segment · s skipped stimuli · l tags ·
u undone · b probe · i custom id · r run · a first segment of the run.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, NoName, Seconds, Whole
from infinitic.messages.client import ReplyTo
from infinitic.messages.decoding import make_decoder
from infinitic.messages.events import Stimulus


class ProbeRequest(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A replay in which the failures of some tasks are left out, or that of the code itself.

    On the wire: i request id · r whom to answer · k tasks · x exact · n rerun.

    Attributes:
        request_id: that of `RetryTasks` or `RetryWorkflowTask`.
        reply_to: whom to answer if the instance is gone.
        tasks: the positions of these tasks.
        exact: whether all of them must run again. Otherwise those are left out with whose failures
            the code has dealt.
        rerun: the activation in which the first method has failed: find out whether the code can
            run it again. 0: it is about tasks.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    tasks: tuple[Whole, ...] = msgspec.field(name="k", default=())
    exact: bool = msgspec.field(name="x", default=False)
    rerun: Whole = msgspec.field(name="n", default=0)


class Activate(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="activate", tag_field="t", gc=False):
    """Resume the instance, and answer with a `Decision`. State engines send it.

    A duplicate is answered with the same decision once more, of which the first one counts.

    Attributes:
        activation: the number of the activation.
        version: that of the code; None: the highest one.
        at: what the code sees as the time, in seconds since the Unix epoch.
        stimuli: what the code is handed. If they are large, or in several segments, they stay in
            the history.
        digest: that of the decision before. An executor with another one replays the instance.
        sequence: that of the last segment of the history when this was sent.
        meta: what the client that started the instance gave along.
        each: see `Activated`.
        epoch: rises when the same activation is to be run anew. Decisions for an older one do not
            count.
        first: the first segment with stimuli; 0: they are here. They end at the `Activated` of this
            number, in segment `sequence` or before.
        skip: how many stimuli, from segment `first` on, were handed over before.
        tags: those of the instance, with its first activation. Later on they are in its history.
        undone: the segments in which the instance was re-opened: a replay looks at them first.
        probe: replay the instance without some failures, and answer with `Probed`. Nothing is
            activated then.
        custom_id: that of the instance, likewise.
        run: the number of the run.
        base: the segment with which this run begins; 0: the first one.
    """

    activation: Whole = msgspec.field(name="n")
    version: Whole | None = msgspec.field(name="v", default=None)
    at: Seconds = msgspec.field(name="w")
    stimuli: tuple[Stimulus, ...] = msgspec.field(name="e", default=())
    digest: str = msgspec.field(name="g", default="")
    sequence: Whole = msgspec.field(name="q", default=0)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    each: bool = msgspec.field(name="o", default=False)
    epoch: Whole = msgspec.field(name="k", default=0)
    first: Whole = msgspec.field(name="f", default=0)
    skip: Whole = msgspec.field(name="s", default=0)
    tags: tuple[str, ...] = msgspec.field(name="l", default=())
    undone: tuple[Whole, ...] = msgspec.field(name="u", default=())
    probe: ProbeRequest | None = msgspec.field(name="b", default=None)
    custom_id: NoName = msgspec.field(name="i", default="")
    run: Whole = msgspec.field(name="r", default=0)
    base: Whole = msgspec.field(name="a", default=0)


class Ask(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="ask", tag_field="t", gc=False):
    """Ask the code something, by a `@query` method, and answer with `Asked`. State engines send it.

    A duplicate is answered once more.

    On the wire also: m query · a arguments · r whom to answer.

    Attributes:
        query: the query.
        arguments: its arguments.
        reply_to: the client that asks.
        activation: the activation that the code must have run.
        epoch: that of the activation.
        version: that of the code; None: that of the activation is not known yet.
        digest: that of the decision of this activation; None if none was taken yet.
        sequence: the code must have seen all stimuli up to this segment.
        run: the number of the run.
    """

    query: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    reply_to: ReplyTo = msgspec.field(name="r")
    activation: Whole = msgspec.field(name="n")
    epoch: Whole = msgspec.field(name="k", default=0)
    version: Whole | None = msgspec.field(name="v", default=None)
    digest: str | None = msgspec.field(name="g", default=None)
    sequence: Whole = msgspec.field(name="q", default=0)
    run: Whole = msgspec.field(name="u", default=0)


encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Activate | Ask), "message to an executor")
