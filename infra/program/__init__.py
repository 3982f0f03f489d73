"""The stack as Pulumi resources. It runs inside `pulumi preview` and `pulumi up`."""
