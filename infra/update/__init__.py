"""Runs before an update declares a resource: checks the hosts, and reads the stack's state."""
