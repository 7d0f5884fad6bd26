"""Words that were replaced, for the tests of names and of the documentation."""

REPLACED_WORDS = {
    "bite": "chunk",
    "bury": "dead letter",
    "fold": "batch of inputs",
    "horizon": "deduplication window",
    "insist": "retry while unavailable",
    "unseal": "decode",
}
"""Words of our own for which the field has a better one."""
