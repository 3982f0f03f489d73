"""Clients of other people, unchanged but for the base URL, against a real node with the real speech model."""
