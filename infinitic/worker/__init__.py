"""Workers: processes that host services and workflows."""
