"""The executor of a service: it runs attempts of tasks, and reports what came of them."""
