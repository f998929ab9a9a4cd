"""Integrations: claims, the Jobs that fill them, the replicas that wait. The scripts are run for real."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from s3_server import S3Server

from hale.kubernetes.filling import FILL_GIT, FILL_S3
from hale.kubernetes.volumes import WAIT
from hale.spec.problems import SpecError
from tests.kubernetes import kubelet
from tests.kubernetes.cluster import container, kinds, of_kind, pod, said
from tests.kubernetes.cluster import given as rendered

GIT = {"type": "git-lfs", "name": "prompts", "url": "https://example.org/prompts"}
S3 = {"type": "s3", "name": "weights", "url": "s3://models/falcon"}
CACHE = {"type": "volume", "name": "cache"}


def integrated(*integrations: dict[str, Any], settings: dict[str, Any] | None = None) -> Any:
    return rendered({"integrations": list(integrations)}, settings)


def claims(found: Any) -> list[str]:
    return [each["metadata"]["name"] for each in found.objects if each["kind"] == "PersistentVolumeClaim"]


def refused(*integrations: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as error:
        integrated(*integrations)
    return [problem.path for problem in error.value.problems]


# --- objects --------------------------------------------------------------------------------


def test_each_integration_has_a_claim_and_each_but_a_volume_a_job() -> None:
    found = integrated(GIT, S3, CACHE)
    assert kinds(found)[:6] == [*["PersistentVolumeClaim"] * 3, "Job", "Job", "Service"]
    mounts = container(found)["volumeMounts"]
    assert [(each["mountPath"], each["subPath"], each["readOnly"]) for each in mounts] == [
        ("/opt/integrations/prompts", "content", True),
        ("/opt/integrations/weights", "content", True),
        ("/opt/integrations/cache", "content", False),
    ]
    volumes = [each["persistentVolumeClaim"]["claimName"] for each in pod(found)["volumes"]]
    assert volumes == claims(found)
    env = kubelet.environment(container(found)["env"], {})
    assert env["HALE_INTEGRATION_WEIGHTS"] == "/opt/integrations/weights"


def test_replicas_wait_for_what_is_filled() -> None:
    (wait,) = pod(integrated(CACHE, S3, GIT))["initContainers"]
    assert [(each["name"], each["mountPath"]) for each in wait["volumeMounts"]] == [
        ("volume-1", "/volume/1"),
        ("volume-2", "/volume/2"),
    ]
    assert "initContainers" not in pod(integrated(CACHE))


def test_the_settings_say_what_volumes_are_kept_on_and_what_fills_them() -> None:
    settings = {
        "volumes": {"storageClass": "nfs", "size": "1Ti", "accessMode": "ReadWriteOnce"},
        "images": {"s3": "mirror/rclone:1"},
    }
    found = integrated(S3, settings=settings)
    assert of_kind(found, "PersistentVolumeClaim")["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Ti"}},
        "storageClassName": "nfs",
    }
    assert of_kind(found, "Job")["spec"]["template"]["spec"]["containers"][0]["image"] == "mirror/rclone:1"
    assert "one node at a time" in said(found)["integrations"]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        pytest.param(S3, S3, True, id="the same"),
        pytest.param(S3, S3 | {"path": "/elsewhere"}, True, id="mounted elsewhere"),
        pytest.param(S3, S3 | {"region": "eu"}, False, id="another source"),
        pytest.param(S3, GIT | {"name": "weights"}, False, id="another kind"),
    ],
)
def test_other_content_is_another_claim_and_another_job(
    before: dict[str, Any], after: dict[str, Any], same: bool
) -> None:
    one, other = integrated(before), integrated(after)
    assert (claims(one) == claims(other)) == same
    assert (of_kind(one, "Job")["spec"] == of_kind(other, "Job")["spec"]) == same
    assert (of_kind(one, "Job")["metadata"]["name"] == of_kind(other, "Job")["metadata"]["name"]) == same


def test_a_volume_that_is_written_to_stays_whatever_the_settings_say() -> None:
    assert claims(integrated(CACHE)) == claims(integrated(CACHE, settings={"volumes": {"size": "99Gi"}}))
    other = {"volumes": {"storageClass": "fast"}}
    assert claims(integrated(CACHE)) == claims(integrated(CACHE, settings=other))
    assert claims(integrated(S3)) != claims(integrated(S3, settings=other))


def test_a_job_that_would_change_is_another_job() -> None:
    names = {
        of_kind(integrated(GIT, settings=settings), "Job")["metadata"]["name"]
        for settings in ({}, {"images": {"git": "other"}}, {"volumes": {"storageClass": "x"}})
    }
    assert len(names) == 3


def test_keys_are_named_and_never_printed() -> None:
    s3 = S3 | {"accessKeyId": "$reader", "secretAccessKey": "secret:S3_KEY"}
    git = GIT | {"url": "https://bot:t0ken@example.org/x"}
    found = integrated(s3, git)
    assert "t0ken" not in repr(found)
    (needed,) = found.secrets
    assert [key for key, _ in needed.keys] == ["S3_KEY", "HALE_INTEGRATION_PROMPTS_URL"]
    secrets = {"S3_KEY": "k", "HALE_INTEGRATION_PROMPTS_URL": git["url"]}
    jobs = [each for each in found.objects if each["kind"] == "Job"]
    made = [
        kubelet.environment(job["spec"]["template"]["spec"]["containers"][0]["env"], secrets) for job in jobs
    ]
    assert made[0]["RCLONE_CONFIG_SOURCE_SECRET_ACCESS_KEY"] == "k"
    assert made[0]["RCLONE_CONFIG_SOURCE_ACCESS_KEY_ID"] == "$reader"
    assert made[1] == {"HALE_VOLUME": "/volume", "HALE_URL": git["url"]}


@pytest.mark.parametrize("url", ["file:///srv/x", "ssh://git@example.org/x"])
def test_what_a_cluster_can_not_reach_is_refused(url: str) -> None:
    assert refused(S3, GIT | {"url": url}) == ["integrations[1].url"]


def test_what_can_not_be_mounted_is_refused() -> None:
    assert refused(S3 | {"path": "/a:b"}, CACHE | {"name": "c:d"}) == [
        "integrations[0].path",
        "integrations[1].name",
    ]


def test_what_one_machine_refuses_is_refused() -> None:
    assert refused({"type": "model", "id": "m", "name": "m"}) == ["integrations[0]"]


# --- the scripts ----------------------------------------------------------------------------

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def run(
    script: str, volume: Path, env: Mapping[str, str], within: float = 60
) -> subprocess.CompletedProcess[str]:
    """The script as the container runs it: what the kubelet makes of it, and nothing around it."""
    volume.mkdir(exist_ok=True)
    home = volume.parent / "home"
    home.mkdir(exist_ok=True)
    around = {"PATH": PATH, "HOME": str(home), "HALE_VOLUME": str(volume)}
    return subprocess.run(
        ["sh", "-c", script],
        env={**around, **env},
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def variables(found: Any, **secrets: str) -> dict[str, str]:
    """Those of the Job, without the place of the volume."""
    env = of_kind(found, "Job")["spec"]["template"]["spec"]["containers"][0]["env"]
    made = kubelet.environment(env, secrets)
    assert made.pop("HALE_VOLUME") == "/volume"
    return made


def script(found: Any) -> str:
    """What the container runs, once the kubelet has looked for variables in it."""
    command = of_kind(found, "Job")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:2] == ["sh", "-c"]
    return kubelet.expanded(command[2], {})


def test_the_kubelet_leaves_the_scripts_as_they_are() -> None:
    assert script(integrated(S3)) == FILL_S3
    assert script(integrated(GIT)) == FILL_GIT
    (wait,) = pod(integrated(GIT))["initContainers"]
    assert kubelet.expanded(wait["command"][2], {"HALE_VOLUME": "x"}) == WAIT


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3", key="reader", secret="k e y")
    server.put("models", "falcon/config.json", b"{}")
    server.put("models", "falcon/weights/ü 1.bin", bytes(range(256)))
    server.put("models", "falcon-7b", b"no part of it")
    (server.folder / "empty").mkdir()
    server.start()
    yield server
    server.stop()


def source(server: S3Server, url: str) -> Any:
    keys = {"endpoint": server.url, "accessKeyId": "reader", "secretAccessKey": "secret:KEY"}
    return integrated(S3 | {"url": url} | keys)


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://models/falcon", {"config.json", "weights/ü 1.bin"}),
        ("s3://models/falcon/", {"config.json", "weights/ü 1.bin"}),
        ("s3://models/", {"falcon/config.json", "falcon/weights/ü 1.bin", "falcon-7b"}),
        ("s3://models/falcon-7b", {"falcon-7b"}),
        ("s3://empty/", set()),
    ],
)
def test_a_volume_is_filled_from_s3(s3: S3Server, tmp_path: Path, url: str, expected: set[str]) -> None:
    found = source(s3, url)
    done = run(script(found), tmp_path / "v", variables(found, KEY="k e y"))
    assert (done.returncode, done.stderr) == (0, "")
    assert set(files(tmp_path / "v" / "content")) == expected
    assert (tmp_path / "v" / "filled").exists()


@pytest.mark.real_time
@pytest.mark.parametrize(("url", "key"), [("s3://models/nothing", "k e y"), ("s3://models/falcon", "wrong")])
def test_a_volume_that_could_not_be_filled_is_not_said_to_be(
    s3: S3Server, tmp_path: Path, url: str, key: str
) -> None:
    found = source(s3, url)
    done = run(script(found), tmp_path / "v", variables(found, KEY=key))
    assert done.returncode != 0
    assert done.stderr
    assert not (tmp_path / "v" / "filled").exists()


def git(folder: Path, *arguments: str) -> None:
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": PATH, "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **names}
    subprocess.run(["git", *arguments], cwd=folder, env=env, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with a large file, a tag on its first commit, and a second one."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "lfs", "install", "--local")
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (folder / ".lfsconfig").write_text("[lfs]\n\tfetchexclude = *\n")
    (folder / "big.bin").write_bytes(b"large " * 1000)
    (folder / "a b.txt").write_text("one")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=1")
    git(folder, "tag", "v1")
    (folder / "a b.txt").write_text("two")
    git(folder, "commit", "--quiet", "--all", "--message=2")
    return folder


@pytest.mark.real_time
@pytest.mark.parametrize(("ref", "text"), [("", b"two"), ("#v1", b"one"), ("#main", b"two")])
def test_a_volume_is_filled_from_git_with_its_large_files(
    repository: Path, tmp_path: Path, ref: str, text: bytes
) -> None:
    done = run(FILL_GIT, tmp_path / "v", {"HALE_URL": f"file://{repository}{ref}"})
    assert done.returncode == 0, done.stderr
    content = files(tmp_path / "v" / "content")
    assert content["a b.txt"] == text
    assert content["big.bin"] == b"large " * 1000
    assert set(os.listdir(tmp_path / "v")) == {"content", "filled"}


@pytest.mark.real_time
def test_what_was_left_half_way_is_begun_anew_and_what_is_filled_stays(
    repository: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "v"
    (volume / "git").mkdir(parents=True)
    (volume / "content").mkdir()
    (volume / "content" / "left").write_text("over")
    broken = run(FILL_GIT, volume, {"HALE_URL": f"file://{tmp_path}/nowhere"})
    assert (broken.returncode != 0, (volume / "filled").exists()) == (True, False)
    assert run(FILL_GIT, volume, {"HALE_URL": f"file://{repository}"}).returncode == 0
    before = files(volume)
    assert "content/left" not in before
    assert run(FILL_GIT, volume, {"HALE_URL": "file:///nowhere"}).returncode == 0
    assert files(volume) == before


@pytest.mark.real_time
def test_the_wait_ends_when_all_volumes_are_filled(tmp_path: Path) -> None:
    for name in ("0", "2"):
        (tmp_path / "v" / name).mkdir(parents=True)
    (tmp_path / "v" / "0" / "filled").touch()
    with pytest.raises(subprocess.TimeoutExpired):
        run(WAIT, tmp_path / "v", {}, within=2)
    (tmp_path / "v" / "2" / "filled").touch()
    assert run(WAIT, tmp_path / "v", {}).returncode == 0
