"""The doctor of a stack in a Kubernetes cluster: pure functions over what the cluster's API says."""
