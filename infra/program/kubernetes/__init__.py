"""A stack in a Kubernetes cluster as Pulumi resources; a stack on hosts loads nothing of it."""
