"""The laboratory: real Docker hosts on this machine, each a network namespace with its own dockerd and sshd.

`prerequisites` lists the missing tools. `images` prepares the base images that a site would pull from a
registry. `fleet` creates and removes hosts. `load` sends requests through the gateway. `program` drives
Pulumi.
"""
