"""What travels: closed unions of frozen structs, one file for each receiver, JSON on the wire.

Names of fields are short on the wire, and documented where they are declared. Unknown fields are
ignored when a message is decoded. Every field that was added later has a default. So workers of
different releases can work together (S41).

Any message may come twice, at any time. Each says here what a duplicate does.

None of them can be part of a reference cycle: they are frozen and hold nothing but values. So they
say `gc=False`, and the garbage collector need not visit them.
"""
