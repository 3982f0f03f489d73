"""The console: a small process beside the gateway that watches the nodes and serves the fleet on one page.

It reads each node's metrics, health and description over HTTP, and keeps an hour in memory. It knows the
nodes from its settings alone, so it runs in the service's image and needs neither Pulumi nor Docker.
"""
