"""Stacks on a real Kubernetes API server with its controllers and scheduler: `make e2e-kubernetes`."""
