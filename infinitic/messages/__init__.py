"""What travels: closed unions of frozen structs, one file per audience, JSON on the wire.

Field names are short on the wire and documented where they are declared. Unknown fields are ignored when decoding,
and every field that was added later has a default, so that releases can be mixed (rule S41).

None of them can be part of a reference cycle: they are frozen and hold nothing but values. So they
say `gc=False`, and the garbage collector need not visit them.
"""
