"""What users write every day, one workflow for each topic.

Each story is a program that acts as a client. Its outcome is the same in memory, under faults and
on real servers. So whatever loses a race never comes in a run, or never comes at all.
"""
