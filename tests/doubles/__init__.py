"""Stand-ins for systems that the tests cannot run. Each says in its own docstring that it is a double."""
