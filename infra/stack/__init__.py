"""A stack's configuration: typed, validated as a whole, read from Pulumi or from its file."""

from infra.stack.console import Console
from infra.stack.gateway import Gateway, RateLimit, Tls, VirtualAddress
from infra.stack.hosts import ClusterHost, EmbeddedHost, Host, SshHost, UnixHost, parse_host
from infra.stack.images import Build, Images, ImageSource, Login
from infra.stack.load import PROJECT, load, load_file, parse
from infra.stack.monitoring import Alertmanager, Email, Exporters, Grafana, Monitoring, Prometheus
from infra.stack.node import Node, Ports, Remote
from infra.stack.problems import Problem, StackError
from infra.stack.rollout import Judge, Rollout
from infra.stack.runtimes import EdgeLlm, EdgeLlmPart, Models, Service, Triton
from infra.stack.types import Cors, Ssh, Stack
from infra.stack.values import memory_bytes
