"""What is private stays so: passwords, the token, the files of the data folder."""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing

import pytest
from kit.daemon import Hale, web_spec
from kit.until import until

pytestmark = pytest.mark.e2e

NewHale = Callable[..., Hale]
PASSWORD = "a-password-of-the-endpoint"


def everything_shown(hale: Hale, deployment: str) -> str:
    """All that the API and the command line say of the deployment, and of what there is besides."""
    one = f"deployments/{deployment}"
    paths = ["deployments", "events", "server", "container-registries", "teams/hale/secrets", one]
    paths += ["projects/default/secrets"]
    paths += [
        f"{one}/{part}" for part in ["runs", "history", "revisions", "spec", "health", "events", "logs"]
    ]
    commands = [(command, "web") for command in ("get", "events", "history", "logs")] + [("list",)]
    shown = [hale.api.get(path).text for path in paths]
    shown += [hale.cli(*command, *more).stdout for command in commands for more in ((), ("--json",))]
    return "\n".join(shown)


def test_a_password_of_an_endpoint_is_in_nothing_but_the_database(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=1, basicAuthKey=PASSWORD))
    assert hale.ask("web.localhost").status_code == 401
    assert hale.ask("web.localhost", auth=("paperspace", PASSWORD)).status_code == 200
    wrong = hale.api.post(
        "deployments", json={"projectId": "default", "config": web_spec(basicAuthKey=[PASSWORD])}
    )
    assert wrong.status_code == 400
    assert '"basicAuthKey":"***"' in hale.api.get(f"deployments/{web}").text
    shown = everything_shown(hale, web) + wrong.text + hale.log_text()
    assert PASSWORD not in shown
    assert PASSWORD not in "".join(hale.processes().values())
    holding = {
        path.name
        for path in hale.data.rglob("*")
        if path.is_file() and PASSWORD.encode() in path.read_bytes()
    }
    assert holding <= {"hale.db", "hale.db-wal"}


def files_with(hale: Hale, text: str) -> set[str]:
    """The files of the data folder that have it in plain, backups of the database too."""
    with (
        closing(sqlite3.connect(hale.data / "hale.db")) as source,
        closing(sqlite3.connect(hale.data / "backup.db")) as backup,
    ):
        source.backup(backup)
    return {
        str(path.relative_to(hale.data))
        for path in hale.data.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    }


def test_secrets_and_passwords_of_registries_are_in_plain_nowhere(hale: Hale) -> None:
    """The mark is part of every secret there is: of a variable, an endpoint, a registry."""
    mark = "m4rk-of-what-is-secret"
    team = hale.post("teams/hale/secrets", {"name": "TOKEN", "value": f"token-{mark}"})
    door = hale.post("projects/default/secrets", {"name": "DOOR", "value": f"old-{mark}"})
    registry = hale.post(
        "container-registries",
        {
            "name": "mine",
            "url": "localhost:1",
            "namespace": "",
            "username": "ada",
            "password": f"password-{mark}",
        },
    )
    told = [hale.api.patch("projects/default/secrets/DOOR", json={"value": f"door-{mark}"}).text]
    told += [hale.api.get(f"container-registries/{registry['id']}/test-connection").text]
    env = [{"name": "VERSION", "value": "secret:TOKEN"}]
    web = hale.up(web_spec(replicas=1, env=env, basicAuthKey="secret:DOOR", containerRegistry="mine"))
    assert hale.ask("web.localhost").status_code == 401
    answer = hale.ask("web.localhost", auth=("paperspace", f"door-{mark}"))
    assert (answer.status_code, f"token-{mark}" in answer.text) == (200, True)
    hale.api.patch(f"deployments/{web}", json={"replicas": 2})
    told += [hale.api.post("projects/default/secrets", json={"name": "DOOR", "value": mark}).text]
    told += [hale.api.put(f"container-registries/{registry['id']}", json={"url": f"a:{mark}@b"}).text]
    told += [everything_shown(hale, web), hale.log_text(), str([team, door, registry])]
    assert [text for text in told if mark in text] == []
    assert mark not in "".join(hale.processes().values())
    assert "TOKEN" in "".join(told)
    assert "backup.db" in files_with(hale, "TOKEN")  # the search finds what is there
    assert files_with(hale, mark) == set()


def test_secrets_outlive_the_daemon_and_take_effect_with_the_next_apply(hale: Hale) -> None:
    hale.post("projects/default/secrets", {"name": "DOOR", "value": "old"})
    spec = web_spec(replicas=1, basicAuthKey="secret:DOOR")
    web = hale.up(spec)
    hale.api.patch("projects/default/secrets/DOOR", json={"value": "new"})
    hale.kill()
    hale.start()
    assert hale.ask("web.localhost", auth=("paperspace", "old")).status_code == 200
    (before,) = hale.replicas(web)
    hale.up(spec)
    until(
        lambda: hale.ask("web.localhost", auth=("paperspace", "new")).status_code == 200,
        what="the new password opens it",
    )
    assert hale.ask("web.localhost", auth=("paperspace", "old")).status_code == 401
    (after,) = hale.replicas(web)
    assert (after["id"], after["pid"]) == (before["id"], before["pid"])


def test_a_daemon_without_its_key_says_so_and_changes_nothing(new_hale: NewHale) -> None:
    hale = new_hale().start()
    hale.post("teams/hale/secrets", {"name": "TOKEN", "value": "kept"})
    hale.kill(signal.SIGTERM)
    key = (hale.data / "key").rename(hale.data / "elsewhere")
    refused = hale.cli("serve", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
    assert (refused.returncode, "their key" in refused.stderr, "is not there" in refused.stderr) == (
        1, True, True,
    )  # fmt: skip
    assert "put the file `key` of the same backup there" in " ".join(refused.stderr.split())
    key.rename(hale.data / "key")
    hale.start()
    assert [secret["name"] for secret in hale.get("teams/hale/secrets")["items"]] == ["TOKEN"]


def test_the_token_is_in_no_log_and_no_command_line(hale: Hale) -> None:
    web = hale.up(web_spec(replicas=1))
    hale.api.get("deployments", headers={"Authorization": f"Bearer x{hale.token}"})
    shown = everything_shown(hale, web) + hale.log_text() + "".join(hale.processes().values())
    assert hale.token not in shown
    holding = [
        path.name
        for path in hale.data.rglob("*")
        if path.is_file() and hale.token.encode() in path.read_bytes()
    ]
    assert holding == ["token"]


def test_nobody_else_can_read_what_hale_keeps_whatever_the_umask(new_hale: NewHale) -> None:
    """The folder was there already, and open: what is directly in it is closed itself, or a closed folder."""
    hale = new_hale()
    hale.data.mkdir(mode=0o755)
    spec = hale.data.with_name("hale.json")
    spec.write_text(json.dumps(web_spec(replicas=1)))
    command = hale.command("up", str(spec), "--detach", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
    subprocess.run(command, umask=0, check=True, timeout=120, env=hale.env, capture_output=True)
    open_to_all = {
        path.name for path in hale.data.iterdir() if path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    }
    assert open_to_all == set()
    assert {"token", "api", "serve.log", "hale.db", "gateway", "replicas"} <= set(os.listdir(hale.data))


def test_a_token_that_others_can_read_is_closed(new_hale: NewHale) -> None:
    hale = new_hale().start()
    token = hale.token
    hale.kill()
    (hale.data / "token").chmod(0o644)
    hale.start()
    assert (hale.token, stat.S_IMODE((hale.data / "token").stat().st_mode)) == (token, 0o600)


def test_a_folder_that_everybody_can_write_is_refused(new_hale: NewHale) -> None:
    hale = new_hale()
    hale.data.mkdir()
    hale.data.chmod(0o1777)
    refused = hale.cli("serve", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
    assert (refused.returncode, "every user may write there" in refused.stderr) == (1, True)
    assert list(hale.data.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_folder_of_another_user_is_refused(new_hale: NewHale) -> None:
    hale = new_hale()
    hale.data.mkdir(mode=0o700)
    os.chown(hale.data, 65534, 65534)
    refused = hale.cli("serve", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
    assert (refused.returncode, "belongs to another user (uid 65534)" in refused.stderr) == (1, True)
    assert list(hale.data.iterdir()) == []


def test_whoever_listens_where_a_dead_daemon_did_is_not_sent_the_token(hale: Hale) -> None:
    host, _, port = (hale.data / "api").read_text().strip().rpartition(":")
    hale.kill()
    with socket.create_server((host, int(port))) as impostor:
        impostor.settimeout(0.2)
        refused = hale.cli("list")
        assert (refused.returncode, "no daemon is running" in refused.stderr) == (3, True)
        with pytest.raises(TimeoutError):
            impostor.accept()


def test_strangers_cannot_fill_the_log(shared_hale: Hale) -> None:
    host, _, port = (shared_hale.data / "api").read_text().strip().rpartition(":")
    before = shared_hale.log_text()
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=30) as stranger:
            stranger.sendall(b"what is this\r\n\r\n")
            assert stranger.recv(1024).startswith(b"HTTP/1.1 400 ")
    assert shared_hale.api.get("deployments", headers={"Authorization": "Bearer x"}).status_code == 401
    assert shared_hale.log_text() == before


def test_a_planted_log_of_the_background_is_not_followed(new_hale: NewHale) -> None:
    hale = new_hale()
    hale.data.mkdir()
    other = hale.data.with_name("other")
    other.write_text("as it was")
    (hale.data / "serve.log").symlink_to(other)
    spec = hale.data.with_name("hale.json")
    spec.write_text(json.dumps(web_spec()))
    refused = hale.cli("up", str(spec), "--detach", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert (other.read_text(), hale.processes()) == ("as it was", {})
