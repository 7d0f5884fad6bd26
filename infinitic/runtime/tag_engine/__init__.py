"""The tag engine of one workflow: who has a tag, messages to all of them, and custom ids.

It is a role of its own, with a topic of its own, and has its state in the storage alone. Messages
of one tag are handled in order; those of different tags do not wait for each other.
"""
