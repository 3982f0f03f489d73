"""The checks, by what they look at: a host, a node, the gateway, and the processes of the embedded stack."""
