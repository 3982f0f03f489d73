"""The gateway: nginx in front of all nodes."""
