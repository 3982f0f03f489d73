"""The Triton model folders that a stack serves."""
