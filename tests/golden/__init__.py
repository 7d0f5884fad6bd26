"""Messages and state as releases wrote them: every later release must decode them (rule S41)."""
