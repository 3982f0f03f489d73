"""The laboratory: real Docker hosts on this machine, each a network namespace with its own dockerd and sshd.

`prerequisites` says what is missing, `images` prepares the base images that a site would pull from a
registry, `fleet` brings hosts up and takes them away, `load` sends requests through the gateway, `program`
drives Pulumi.
"""
