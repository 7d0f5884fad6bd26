"""``infinitic init``: make a project with a workflow, a service and their tests."""
