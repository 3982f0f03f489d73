"""Runs in an update, before its first resource and in its hooks: checks hosts and nodes, reads the state."""
