"""The objects that a stack declares in a Kubernetes cluster: pure functions from the stack to manifests."""
