"""Images from a private registry through the whole product: what is pulled when, and each way it can fail."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from kit import images
from kit.containers import container_spec, places, typed
from kit.daemon import Hale, Json
from kit.podman import Podman
from kit.registry import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NewHale = Callable[..., Hale]
HOST = "web.localhost"


@pytest.fixture
def hale(podman: Podman, new_hale: NewHale, registry: Registry) -> Hale:
    """A hale that knows the registry as `ours`, which has web:1."""
    registry.push(images.web("1"), "web:1")
    hale = new_hale(env={"DOCKER_HOST": podman.url}).start()
    connect(hale, registry, registry.password)
    return hale


def connect(hale: Hale, registry: Registry, password: str, name: str = "ours") -> None:
    typed(hale, password, "registry", "add", name, "--url", registry.url, "--username", registry.username)


def spec(registry: Registry, image: str = "web:1", name: str = "web", **fields: object) -> dict[str, Json]:
    known = {"image": registry.name(image), "containerRegistry": "ours"}
    return container_spec(name, **{**known, "replicas": 1, **fields})  # type: ignore[arg-type]


def newest(hale: Hale, deployment: str) -> Json:
    return hale.get(f"deployments/{deployment}")["latestSpec"]


def pulls(registry: Registry) -> int:
    """How often an image was fetched, or found to be the one that is here."""
    return len(registry.requests(r"^GET \S+/manifests/.* 200"))


def apply_file(hale: Hale, wanted: dict[str, Json], *options: str) -> tuple[int, str]:
    """`hale apply --wait` as users do it: its exit code and all that it wrote."""
    path = hale.data.with_name(f"{wanted['name']}.json")
    path.write_text(json.dumps(wanted))
    done = hale.cli("apply", str(path), "--wait", *options)
    return done.returncode, done.stdout + done.stderr


# --- what is pulled when ----------------------------------------------------------------------


def test_every_way_to_change_what_runs_loses_no_request(hale: Hale, registry: Registry) -> None:
    registry.push(images.web("2"), "web:2")
    assert apply_file(hale, spec(registry, replicas=2))[0] == 0
    (web,) = [each["id"] for each in hale.get("deployments")["items"]]
    first = newest(hale, web)["id"]
    with hale.load(HOST) as load:
        load.flow()
        assert apply_file(hale, spec(registry, "web:2", replicas=2))[0] == 0
        assert hale.ask(HOST).text == "2\n"
        asked = pulls(registry)
        kept = {each["id"] for each in hale.wait_ready(web, 2)}
        assert hale.cli("scale", "web", "3").returncode == 0
        more = {each["id"] for each in hale.wait_ready(web, 3)}
        assert hale.cli("scale", "web", "1").returncode == 0
        hale.wait(lambda: len(hale.replicas(web)) == 1, what="two have left")
        less = {each["id"] for each in hale.replicas(web)}
        assert hale.cli("restart", "web").returncode == 0
        hale.wait(lambda: less.isdisjoint(r["id"] for r in hale.replicas(web, ready=True)), what="replaced")
        hale.wait_ready(web, 1)
        assert (kept < more, less < more, pulls(registry)) == (True, True, asked)

        # The tag is moved; back goes what ran, not what the tag is by now.
        registry.push(images.web("3"), "web:1")
        assert hale.cli("rollback", "web", "1").returncode == 0
        hale.wait(lambda: hale.ask(HOST).text == "1\n", what="version 1 is back")
        hale.wait_healthy(web)
        assert apply_file(hale, spec(registry, replicas=2))[0] == 0
        hale.wait(lambda: hale.ask(HOST).text == "3\n", what="an apply takes the tag as it is now")
        hale.wait_healthy(web)
        load.flow()
    assert (load.failures[:3], load.count > 100) == ([], True)
    digests = {r["id"]: r["imageDigest"] for r in hale.get(f"deployments/{web}/revisions")["items"]}
    assert len(set(digests.values())) == 3
    assert digests[first] in list(digests.values())[:-1]


def test_an_image_that_is_always_pulled_is_asked_for_before_each_start(
    hale: Hale, registry: Registry, podman: Podman
) -> None:
    web = hale.up(spec(registry, hale={"pull": "always"}))
    registry.push(images.web("2"), "web:1")
    podman.run("kill", *podman.containers())
    hale.wait(lambda: hale.replicas(web)[0]["restarts"] == 1, what="it was started again")
    hale.wait_healthy(web)
    assert hale.ask(HOST).text == "2\n"
    assert hale.events(web, "image.changed") != []


def test_what_is_deleted_leaves_nothing(hale: Hale, registry: Registry, podman: Podman) -> None:
    hale.up(spec(registry))
    assert hale.cli("delete", "web").returncode == 0
    hale.wait(lambda: podman.containers() == [], what="no container is left")
    hale.wait(lambda: hale.get("deployments")["items"] == [], what="it is deleted")
    kept = [path for path in (hale.data / "containers").rglob("*") if path.is_dir()]
    assert kept == []
    assert hale.cli("down").returncode == 0
    assert podman.run("network", "ls", "--format", "{{.Name}}") == "podman"


# --- what can't be pulled ---------------------------------------------------------------------


def test_each_image_that_cannot_be_had_is_told_at_once_in_its_own_words(
    hale: Hale, registry: Registry, tls_registry: Registry
) -> None:
    registry.push(replace(images.web("1"), architecture="s390x"), "mainframe:1")
    tls_registry.push(images.web("1"), "web:1")
    connect(hale, tls_registry, tls_registry.password, "tls")
    wrong = registry.name("web:1")
    cases = {
        "image.not_found": {"image": registry.name("nosuch:1")},
        "image.tag_not_found": {"image": registry.name("web:nosuch")},
        "image.wrong_architecture": {"image": registry.name("mainframe:1")},
        "image.untrusted": {"image": tls_registry.name("web:1"), "containerRegistry": "tls"},
        "image.denied": {"image": wrong, "containerRegistry": None},
    }
    said = ""
    for kind, fields in cases.items():
        wanted = {name: value for name, value in (spec(registry, name=kind) | fields).items() if value}
        code, text = apply_file(hale, wanted)
        deployment = hale.get("deployments", name=kind)["items"][0]["id"]
        (event,) = hale.events(deployment, "image.")[-1:]
        error = newest(hale, deployment)["error"]
        assert (code, event["type"], event["level"]) == (1, kind, "warning"), text
        doing = "run" if kind == "image.wrong_architecture" else "pull"
        assert error.startswith(f"cannot {doing} {wanted['image']}: ")
        assert error.partition(" (hint")[0] in " ".join(text.split()), text
        assert ("hint" in text, "Traceback" in text) == (True, False)
        said += text + json.dumps(hale.events(deployment)) + error
        hale.delete(deployment)
    assert registry.password not in said + hale.log_text()


def test_a_wrong_password_is_told_and_corrected(hale: Hale, registry: Registry) -> None:
    connect(hale, registry, "not-this-one")
    code, text = apply_file(hale, spec(registry))
    (web,) = [each["id"] for each in hale.get("deployments")["items"]]
    assert (code, [e["type"] for e in hale.events(web, "image.denied")]) == (1, ["image.denied"]), text
    connect(hale, registry, registry.password)
    hale.wait_healthy(web)
    assert (newest(hale, web)["error"], hale.ask(HOST).text) == (None, "1\n")
    told = text + json.dumps([hale.events(web), hale.get(f"deployments/{web}/revisions")]) + hale.log_text()
    assert [word for word in ("not-this-one", registry.password) if word in told] == []


def test_while_the_registry_is_away_what_ran_serves_on(hale: Hale, registry: Registry) -> None:
    registry.push(images.web("2"), "web:2")
    web = hale.up(spec(registry))
    before = places(hale.replicas(web))
    registry.stop()
    with hale.load(HOST) as load:
        load.flow()
        hale.apply(spec(registry, "web:2"))
        hale.wait(lambda: hale.events(web, "image.unreachable"), what="it is told")
        revision = newest(hale, web)
        assert (revision["error"], revision["externalApplied"]) == (None, None)
        assert places(hale.replicas(web)) == before
        load.flow()
        registry.start()
        connect(hale, registry, registry.password)  # the next try is at once
        hale.wait(lambda: hale.ask(HOST).text == "2\n", what="it is pulled")
        hale.wait_healthy(web)
    assert load.failures[:3] == []
