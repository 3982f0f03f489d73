"""What a Prometheus of the user's reads of a fleet: pure functions from the stack."""
