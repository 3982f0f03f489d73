"""A node as a Pulumi component: one host's runtime and inference service on a network of their own."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.image_references import sources
from infra.program import embedded as embedded_steps
from infra.program import runtimes
from infra.program.command import step
from infra.program.containers import USER, container, healthcheck
from infra.program.host import DockerHost
from infra.program.images import HostImage, Images
from infra.program.models import NodeModels
from infra.program.runtimes.base import Place
from infra.service_settings import service_secrets, settings_file
from infra.stack import Node, Stack, memory_bytes
from infra.steps.readiness import Readiness, Reload

# The service's own grace, and then some for its processes to end.
_STOP_MARGIN_SECONDS = 10


class DockerNode(pulumi.ComponentResource):
    """A node on a Docker host.

    What touches nothing that serves (network, volume, images, model copies) is declared at once and is
    `prepared`; `start` declares the rest in the node's turn of the rollout.
    """

    def __init__(self, stack: Stack, node: Node, host: DockerHost, images: Images) -> None:
        super().__init__(host.component("Node"), node.name)
        self._stack, self._node, self._host, self._images = stack, node, host, images
        self._network = names.network(stack, node)
        self._shared_memory = names.shared_memory_volume(stack, node)
        self.models = NodeModels(stack, node, host, self)
        network = host.declare(docker.Network, f"{node.name}-network", parent=self, name=self._network)
        shared_memory = host.declare(
            docker.Volume,
            f"{node.name}-shm-{stack.triton.shm_size}",
            parent=self,
            # Docker refuses a second network of the name, but takes a volume that is there for a new one:
            # another address of the same machine must fail before it has made the node's own volume its.
            needs=[network],
            name=self._shared_memory,
            driver="local",
            driver_opts={
                "type": "tmpfs",
                "device": "tmpfs",
                "o": f"size={memory_bytes(stack.triton.shm_size)},mode=1777",
            },
        )
        used = {part: images.on(host, part, source) for part, source in sources(stack, node).items()}
        self._service_image = used[names.SERVICE]
        self._before: list[pulumi.Resource | None] = [network, shared_memory]
        self.prepared: list[pulumi.Resource | None] = [
            *self._before,
            *self.models.copies,
            *(needed for image in used.values() for needed in image.needs),
        ]

    def start(self, after: Sequence[pulumi.Resource | None], gateway: Reload) -> pulumi.Resource | None:
        """The containers, after those before them in the rollout; returns what says that the node is healthy.

        `gateway` is what the readiness step reloads. None on a host that is out of reach and has no such
        node.
        """
        stack, node = self._stack, self._node
        in_use = self.models.activate([*after, *self._before])
        # One edge to the nodes before is enough: Pulumi follows every edge all the way back.
        needs = [*self._before, *([in_use] if in_use is not None else after)]
        place = Place(
            stack,
            node,
            self._host,
            self._images,
            self.models,
            self,
            self._network,
            self._shared_memory,
            needs,
        )
        runtime = runtimes.declare(place)
        running = [made for made in runtime if made is not None]
        service = self._service(self._service_image, [*self._before, *(running[-1:] or needs)])
        containers = [made for made in [*runtime, service] if made is not None]
        ready = self._host.declare(
            command.local.Command,
            f"{node.name}-ready",
            parent=self,
            needs=containers[-1:],
            **step(
                "infra.steps.readiness",
                "wait",
                Readiness(
                    node=node.name,
                    connection=self._host.connection,
                    service=names.container(stack, node, names.SERVICE),
                    url=f"http://{names.LOOPBACK}:{names.HTTP_PORT}/api/v1/ai/health",
                    containers=tuple(names.container(stack, node, part) for part in sources(stack, node)),
                    timeout=stack.rollout.ready_timeout_seconds,
                    gateway=gateway,
                ),
                triggers=[*(made.id for made in containers), self.models.versions],
            ),
        )
        self.register_outputs({"models": self.models.versions})
        return ready

    def _service(self, image: HostImage, needs: Sequence[pulumi.Resource | None]) -> docker.Container | None:
        stack, node = self._stack, self._node
        mounts = [docker.ContainerMountArgs(type="volume", source=self._shared_memory, target="/dev/shm")]
        declared = container(
            stack,
            names.container(stack, node, names.SERVICE),
            names.SERVICE,
            image=image.reference,
            network=self._network,
            alias=names.SERVICE,
            ports=names.published_by(stack, node, names.SERVICE),
            env={"AI_CONFIG": names.SETTINGS_FILE, **stack.service.env},
            secrets=service_secrets(stack, node),
            memory=stack.service.memory,
            stop_seconds=stack.service.shutdown_grace_seconds + _STOP_MARGIN_SECONDS,
            user=USER,
            uploads=[
                docker.ContainerUploadArgs(file=names.SETTINGS_FILE, content=settings_file(stack, node))
            ],
            mounts=mounts if node.runtime == "triton" else None,
            healthcheck=healthcheck(["python3", "-m", "inference_service.healthcheck"], start_seconds=30),
        )
        return self._host.declare(
            docker.Container,
            f"{node.name}-service",
            parent=self,
            needs=[*needs, *image.needs],
            delete_before_replace=True,
            **declared,
        )


class EmbeddedNode(pulumi.ComponentResource):
    """A node as processes on this computer, by the commands that start them without Pulumi."""

    def __init__(self, stack: Stack, node: Node) -> None:
        super().__init__("gpu-inference:index:Node", node.name)
        self._stack, self._node = stack, node
        self.prepared: list[pulumi.Resource | None] = []

    def start(self, after: Sequence[pulumi.Resource | None], _gateway: Reload) -> pulumi.Resource | None:
        """The node's processes, healthy, after the nodes before it in the rollout."""
        processes = command.local.Command(
            f"{self._node.name}-processes",
            **embedded_steps.node(self._stack, self._node),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[resource for resource in after if resource is not None]
            ),
        )
        self.register_outputs({})
        return processes
