"""The stack's certificate authority: a secret of the state, of which the program makes all certificates."""

import datetime

import pulumi
import pulumi_command as command

from infra import names
from infra.certificates import Identity, gateway_identity, node_identity, prometheus_identity
from infra.program.command import step
from infra.stack import Node, Stack
from infra.steps import authority as authority_step
from infra.update import change_over

#: In the environment of the gateway's configuration: tells the next update how the gateway dials nodes.
MARK: dict[str, pulumi.Input[str]] = {change_over.MARK: "on"}


class Authority:
    """Certificates of the authority of a stack, as secret outputs."""

    def __init__(self, stack: Stack, parent: pulumi.Resource) -> None:
        self._stack = stack
        self._now = datetime.datetime.now(datetime.UTC)
        made = command.local.Command(
            "authority",
            **step("infra.steps.authority", "make", authority_step.Authority(stack=stack.name)),
            # The provider logs what a command prints.
            logging=command.local.Logging.NONE,
            opts=pulumi.ResourceOptions(
                parent=parent,
                additional_secret_outputs=["stdout"],
                # Another folder of the project, say, must not make another authority.
                ignore_changes=["create", "dir", "environment", "logging", "stdin", "triggers"],
            ),
        )
        self._key: pulumi.Output[str] = pulumi.Output.secret(made.stdout)

    def gateway(self) -> pulumi.Output[Identity]:
        """The certificate with which the gateway shows nodes who it is."""
        stack, now = self._stack, self._now
        return self._key.apply(lambda key: gateway_identity(key, stack.name, stack.tls.days, now))

    def prometheus(self) -> pulumi.Output[Identity]:
        """The certificate with which Prometheus shows nodes who it is."""
        stack, now = self._stack, self._now
        return self._key.apply(lambda key: prometheus_identity(key, stack.name, stack.tls.days, now))

    def variables(self, node: Node) -> dict[str, pulumi.Input[str]]:
        """The certificate of a node's service, as its environment variables.

        Docker puts no files into a container whose root is read-only.
        """
        stack, now = self._stack, self._now
        identity = self._key.apply(
            lambda key: node_identity(key, stack.name, node.name, node.public_host, stack.tls.days, now)
        )
        return {
            names.NODE_CERTIFICATE: identity.apply(lambda found: found.certificate),
            names.NODE_KEY: identity.apply(lambda found: found.key),
            names.NODE_CLIENT_AUTHORITY: identity.apply(lambda found: found.authority),
        }
