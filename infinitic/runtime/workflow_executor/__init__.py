"""The executor of workflow code, for state engines on other workers (*split*)."""
