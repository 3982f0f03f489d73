"""Stand-ins for systems that the tests cannot run; each says in its own docstring that it is one."""
