"""Which secrets the laboratory's hosts get (tests/e2e/test_9_secrets.py), and why not the others."""

from __future__ import annotations

#: What can be planted on the laboratory's hosts: a text, and the parts whose containers have it by their
#: nature. `{file}` is a copy of the file that the stack uses.
HERE: dict[str, tuple[str, set[str]]] = {
    "triton.env.AN_ENTRY": ("{mark}", {"triton"}),
    "triton.extraArgs.0": ("--id={mark}", {"triton"}),
    "service.env.AN_ENTRY": ("{mark}", {"service"}),
    "apiKeys.0": ("{mark}", {"service", "console"}),
    "cors.origins.0": ("https://{mark}.example.com", {"service"}),
    "gateway.publicHost": ("{mark}.example.com", set()),
    "gateway.trustedProxies.0": ("198.51.100.{number}", set()),
    "remoteDir": ("/opt/{mark}", {"triton", "gateway", "console"}),
    "ssh.knownHosts": ("{file}", set()),
    "ssh.privateKeyFile": ("{file}", set()),
}
#: Why the others cannot, by the begin of the place. Previews have them.
NOT_HERE = {
    "apiKeys": "a list of one text; the list of texts is there",
    "edgeLlm.": "no image of Edge-LLM",
    "remote.": "no node of the runtime remote",
    "nodes.0.": "an address that has to be the host's own",
    "images.": "no registry",
    "gateway.virtualAddress.": "one gateway",
    "gateway.tls.": "a certificate on the gateway's host",
    "gateway.bind": "an address that has to be the host's own",
    "gateway.console.": "not tried yet",
    "gateway.confDir": "the stack's own gateway",
    "gateway.nginx": "the stack's own gateway",
    "gateway.image": "one image of nginx",
    "monitoring.": "no images of it; its own test reads what Docker shows (tests/e2e/test_7_monitoring.py)",
    "traces.": "no collector of traces",
    "models.": "no object store; the path is a folder of the checkout",
    "service.config.": "the name of a model that exists",
    "service.image": "images are built",
    "service.build.": "builds from the checkout",
    "triton.image": "images are built",
    "triton.build.": "builds from the checkout",
    "triton.user": "a user that exists in the image",
    "ssh.proxyJump": "no jump host",
    "ssh.configFile": "the stack has none",
}
