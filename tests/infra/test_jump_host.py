"""Many hosts behind one jump host: it sees one login, and a connection that it drops is made again."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.connection import Connection, RemoteError, jump_master
from infra.stack import Ssh, parse_host
from infra.update import preflight
from tests.infra.conftest import Double
from tests.ports import free_ports

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


@dataclass
class Site:
    """A jump host that takes two connections that are not logged in, and a host behind it, on loopback."""

    ssh: Ssh
    host: str
    log: Path

    @property
    def logins(self) -> int:
        return self.log.read_text().count("Accepted publickey")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if SSHD is None:
        pytest.skip("sshd is not installed (Debian package openssh-server)")
    jump, behind = free_ports(2)
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True
        )
    (tmp_path / "authorized_keys").write_text((tmp_path / "user_key.pub").read_text())
    public = " ".join((tmp_path / "host_key.pub").read_text().split()[:2])
    known = tmp_path / "known_hosts"
    known.write_text("".join(f"[127.0.0.1]:{port} {public}\n" for port in (jump, behind)))
    config = tmp_path / "ssh_config"
    config.write_text(
        f"User {getpass.getuser()}\nUserKnownHostsFile {known}\nIdentityFile {tmp_path}/user_key\n"
        "IdentitiesOnly yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it where root starts it.
    servers = []
    for port, startups in ((jump, 2), (behind, 100)):
        conf = tmp_path / f"sshd_config_{port}"
        conf.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host_key\nUsePAM no\nPidFile none\n"
            f"AuthorizedKeysFile {tmp_path}/authorized_keys\nStrictModes no\nMaxStartups {startups}\n"
            "PermitRootLogin prohibit-password\n"
        )
        log = (tmp_path / f"sshd_{port}.log").open("wb")
        servers.append(subprocess.Popen([SSHD, "-D", "-e", "-f", str(conf)], stderr=log))
    ssh = Ssh(configFile=str(config), proxyJump=f"127.0.0.1:{jump}")
    found = Site(ssh, f"ssh://127.0.0.1:{behind}", tmp_path / f"sshd_{jump}.log")
    deadline = time.monotonic() + 30
    while "Server listening" not in found.log.read_text():
        assert time.monotonic() < deadline, found.log.read_text()
        time.sleep(0.02)
    yield found
    master = jump_master(ssh)
    assert master is not None
    subprocess.run(["sh", "-c", master[2].partition(" || ")[0].replace("-O check", "-O exit")], check=False)
    for server in servers:
        server.terminate()
        server.wait()


def test_checks_of_many_hosts_log_in_to_the_jump_host_once(site: Site) -> None:
    host = parse_host(site.host)
    checks = [preflight.HostCheck(host, (f"gpu-{n}",), docker=False) for n in range(16)]
    assert preflight.probe_all(checks, site.ssh) == []
    assert site.logins == 1


def test_calls_without_a_shared_login_are_repeated_until_the_jump_host_takes_them(site: Site) -> None:
    """As behind a jump host that only the user's SSH configuration names."""
    plain = Connection(site.host, ("-F", str(site.ssh.config_file), "-J", str(site.ssh.proxy_jump)))
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: plain.run("echo here", timeout=60).stdout, range(8)))
    assert done == ["here\n"] * 8
    assert site.logins == 8


def test_a_host_that_is_not_there_is_not_asked_again(double: Double) -> None:
    calls = double(
        "ssh",
        "echo 'channel 0: open failed: connect failed: No route to host' >&2;"
        " echo 'stdio forwarding failed' >&2; exit 255",
    )
    with pytest.raises(RemoteError, match="No route to host"):
        Connection("ssh://192.0.2.1", ("-o", "BatchMode=yes")).run("true")
    assert len(calls.read_text().splitlines()) == 1
