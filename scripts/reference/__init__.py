"""Writes docs/reference/ from the code: the keys of a stack file, HTTP, gRPC and the command lines."""
