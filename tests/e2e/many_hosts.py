"""The doctor on 32 hosts over real SSH, 8 of them cut off.

`unshare --net python -m tests.e2e.many_hosts FOLDER`. In a network namespace of its own one sshd answers as
24 hosts on 24 addresses, and packets to 8 more addresses are lost. Docker, the GPUs and the nodes' APIs are
the doubles of `tests/doctor`, which each host has on its own PATH. Prints the doctor's JSON.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from inference_service import addresses
from infra.doctor.cli import main as doctor
from infra.stack import load_file
from tests.doctor.doubles import Hosts, node_api
from tests.e2e.lab.prerequisites import find
from tests.e2e.lab.ssh import Operator, make_key

ALIVE = [f"127.0.1.{number}" for number in range(1, 25)]
CUT_OFF = [f"198.51.100.{number}" for number in range(101, 109)]
_PORT = 2222
# A cable without a far end. The neighbours' link addresses are static, so the kernel reports no host as
# unreachable.
_NETWORK = """
ip link set lo up
ip link add cable type veth peer name nowhere
ip address add 198.51.100.1/24 dev cable
ip link set cable up
ip link set nowhere up
for address in %s; do ip neighbour add $address lladdr 02:00:00:00:00:02 dev cable; done
"""


def main(folder: Path) -> int:
    """Creates the hosts under `folder`, runs the doctor on them and removes them. Returns the doctor's
    status."""
    subprocess.run(["sh", "-ec", _NETWORK % " ".join(CUT_OFF)], check=True)
    operator = Operator(folder / "ssh")
    operator.prepare()
    file = folder / "Pulumi.many.yaml"
    file.write_text(yaml.safe_dump(stack(operator)))
    hosts = Hosts(folder / "doubles")
    for address in ALIVE:
        hosts.add(address, load_file(file))
    sshd = subprocess.Popen([str(find("sshd")), "-D", "-f", server(operator, hosts)])
    try:
        with node_api(port=addresses.HTTP_PORT), node_api(port=addresses.TRITON_HTTP_PORT):
            wait_for_sshd()
            chosen = [name for node in load_file(file).nodes for name in ("--node", node.name)]
            return doctor(["--file", str(file), "--json", *chosen])
    finally:
        sshd.terminate()
        sshd.wait()


def stack(operator: Operator) -> dict[str, Any]:
    """The stack file. Every fourth host is cut off."""
    addresses = [address for n in range(8) for address in (*ALIVE[3 * n : 3 * n + 3], CUT_OFF[n])]
    config: dict[str, Any] = {
        "nodes": [
            {"name": f"gpu-{n}", "host": f"ssh://root@{a}:{_PORT}"} for n, a in enumerate(addresses, 1)
        ],
        "service": {"image": "registry.example.com/service:1"},
        "models": {"path": "/srv/models"},
        "gateway": {"mode": "embedded"},
        "ssh": {"configFile": str(operator.config)},
    }
    return {"config": {f"gpu-inference:{key}": value for key, value in config.items()}}


def server(operator: Operator, hosts: Hosts) -> Path:
    """The configuration of the sshd that stands for all hosts. Each address has the commands of its own
    double."""
    key = operator.folder / "host_key"
    public = make_key(key)
    for address in ALIVE:
        operator.trust(f"[{address}]:{_PORT}", public)
    keys = operator.folder / "authorized_keys"
    keys.write_text(f"{operator.public_key}\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    conf = operator.folder / "sshd_config"
    conf.write_text(
        f"Port {_PORT}\nHostKey {key}\nAuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\nPidFile none\n"
        "PermitRootLogin prohibit-password\nMaxStartups 100\n"
    )
    with conf.open("a") as file:
        for address in ALIVE:
            host = hosts.folder / "hosts" / address
            # Not root's own home: every command would run this machine's .bashrc.
            file.write(f"Match LocalAddress {address}\n")
            file.write(f"  SetEnv HOME=/nonexistent HERE={host} PATH={host}:/usr/bin:/bin\n")
    return conf


def wait_for_sshd() -> None:
    deadline = time.monotonic() + 10
    scan = [str(find("ssh-keyscan")), "-p", str(_PORT), ALIVE[0]]
    while not subprocess.run(scan, capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "sshd does not answer"
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
