"""What a spec of containers is compiled to: secrets, images, machines, volumes, and the keys of all that."""

from dataclasses import replace
from typing import Any

import pytest

from hale.core.deployment import Machine, Pull, Template
from hale.core.secret import Secret
from hale.core.volume import Source
from hale.errors import RefusedError
from hale.local.engines.expand import expand
from hale.spec import compile as compiled
from hale.spec import load
from hale.spec.schema import Spec
from tests.spec.specs import body

DIGEST = "host/app@sha256:" + "a" * 64
ENV = [{"name": "PLAIN", "value": "$PORT"}, {"name": "TOKEN", "value": "secret:TOKEN"}]
S3 = {
    "type": "s3",
    "name": "data",
    "url": "s3://bucket/a",
    "path": "/srv",
    "region": "us-east-1",
    "endpoint": "https://s3.test",
    "accessKeyId": "secret:ID",
    "secretAccessKey": "secret:KEY",
}
GIT = {"type": "git-lfs", "name": "model", "url": "https://host/model", "path": "/models/model/"}


def secret(name: str, value: str = "v", modified_at: float = 1.0) -> Secret:
    return Secret(name, value, 0.0, modified_at)


KNOWN = [secret(name, f"value of {name}") for name in ("TOKEN", "ID", "KEY", "PASSWORD")]


def made(spec: Spec, **changes: Any) -> Template:
    return compiled.template(spec, secrets=changes.pop("secrets", KNOWN), **changes)


def source(secrets: list[Secret] = KNOWN, **integration: Any) -> Source:
    (found,) = made(load.from_body(body(integrations=[integration])), secrets=secrets).sources
    return found


def target(name: str, path: str | None = None) -> str:
    said = {"type": "git-lfs", "name": name, "url": "https://host/x"}
    return source(**said if path is None else {**said, "path": path}).target


def test_what_a_container_is_made_of() -> None:
    spec = load.from_body(body(image="app:1", containerRegistry="mine", hale={"pull": "never"}))
    template = made(spec, image=DIGEST)
    assert (template.image, template.pinned, template.registry) == ("app:1", DIGEST, "mine")
    assert (template.pull, template.sources, template.mounts) == (Pull.NEVER, (), ())


def test_a_spec_without_such_things_has_none_of_them() -> None:
    template = compiled.template(load.from_body(body(containerRegistry="")))
    assert (template.image, template.pinned, template.registry) == (None, None, None)
    assert (template.pull, template.machine) == (Pull.REVISION, Machine("C4"))


def test_a_machine_type_is_looked_up_and_an_unknown_one_has_a_name_alone() -> None:
    spec = load.from_body(body())
    small = Machine("C4", cpus=4, memory=8 << 30)
    assert made(spec, machines={"C4": small}).machine == small
    assert made(spec, machines={"C5": small}).machine == Machine("C4")


def test_values_of_secrets_stand_in_env() -> None:
    assert made(load.from_body(body(env=ENV))).env == (("PLAIN", "$PORT"), ("TOKEN", "value of TOKEN"))


@pytest.mark.parametrize("value", ["pa$$w${PORT}", "$", "$$$PORT", "$PLAIN"])
def test_a_dollar_in_a_secret_stands_for_itself(value: str) -> None:
    env = dict(made(load.from_body(body(env=ENV)), secrets=[secret("TOKEN", value)]).env)
    assert expand(env["TOKEN"], {"PORT": "8000", "PLAIN": "8000"}) == value
    assert expand(env["PLAIN"], {"PORT": "8000"}) == "8000"


def test_the_password_is_the_value_of_its_secret() -> None:
    spec = load.from_body(body(basicAuthKey="secret:PASSWORD"))
    assert compiled.password(spec, KNOWN) == "value of PASSWORD"
    assert compiled.password(load.from_body(body(basicAuthKey="hunter2")), KNOWN) == "hunter2"
    assert compiled.password(load.from_body(body()), KNOWN) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"env": ENV}, r"env\[1\]\.value"),
        ({"integrations": [S3]}, r"integrations\[0\]\.accessKeyId"),
        ({"env": [{"name": "A", "value": "secret:"}]}, r"env\[0\]\.value"),
    ],
)
def test_the_name_of_a_secret_never_stands_in_for_its_value(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RefusedError, match=f"cannot use {field}: the secret that it refers to is missing"):
        compiled.template(load.from_body(body(**changes)))


def test_nobody_is_let_in_with_the_name_of_a_secret() -> None:
    with pytest.raises(RefusedError, match="cannot use basicAuthKey") as error:
        compiled.password(load.from_body(body(basicAuthKey="secret:PASSWORD")), [])
    assert error.value.hint == "hale secret set PASSWORD"


def test_references_are_found_in_every_place_that_takes_one() -> None:
    space = {
        "type": "spaces",
        "name": "space",
        "endpoint": "https://b.nyc3.digitaloceanspaces.com",
        "accessKeyId": "AKIA",
        "secretAccessKey": "secret:KEY",
    }
    spec = load.from_body(
        body(env=ENV, basicAuthKey="secret:PASSWORD", command=["secret:X"], integrations=[S3, GIT, space])
    )
    assert compiled.references(spec) == (
        (("env", 1, "value"), "TOKEN"),
        (("basicAuthKey",), "PASSWORD"),
        (("integrations", 0, "accessKeyId"), "ID"),
        (("integrations", 0, "secretAccessKey"), "KEY"),
        (("integrations", 2, "secretAccessKey"), "KEY"),
    )


def test_integrations_become_sources() -> None:
    volume = {"type": "volume", "name": "state"}
    sources = made(load.from_body(body(integrations=[S3, GIT, volume]))).sources
    assert [replace(each, key="") for each in sources] == [
        Source(
            "data", "s3", "", "/srv/data", "s3://bucket/a", "https://s3.test", "us-east-1",
            "value of ID", "value of KEY",
        ),
        Source("model", "git-lfs", "", "/models/model", "https://host/model"),
        Source("state", "volume", "", "/opt/integrations/state"),
    ]  # fmt: skip
    assert sources[2].key == "state"


def test_a_space_is_a_bucket_of_its_region() -> None:
    space = source(
        type="spaces",
        name="space",
        endpoint="https://my-bucket.nyc3.digitaloceanspaces.com",
        accessKeyId="AKIA",
        secretAccessKey="secret:KEY",
    )
    assert replace(space, key="") == Source(
        "space", "s3", "", "/opt/integrations/space", "s3://my-bucket/",
        "https://nyc3.digitaloceanspaces.com", "nyc3", "AKIA", "value of KEY",
    )  # fmt: skip


def test_a_public_bucket_needs_no_keys() -> None:
    public = source(type="s3", name="data", url="s3://bucket/")
    assert (public.access_key_id, public.secret_access_key, public.endpoint) == (None, None, None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/models/", "/models/falcon"),
        ("/models", "/models/falcon"),
        ("/models/falcon", "/models/falcon"),
        ("/models/falcon/", "/models/falcon"),
        ("//models/./x", "/models/x/falcon"),
        ("/models/tiny-falcon", "/models/tiny-falcon/falcon"),
        ("/", "/falcon"),
        ("/falcon", "/falcon"),
        (None, "/opt/integrations/falcon"),
    ],
)
def test_the_mount_point(path: str | None, expected: str) -> None:
    assert target("falcon", path) == expected


def test_without_a_path_the_name_is_always_the_last_part() -> None:
    assert target("integrations") == "/opt/integrations/integrations"


# --- keys -----------------------------------------------------------------------------------

EVERYTHING = body(image="app:1", env=ENV, integrations=[S3], basicAuthKey="secret:PASSWORD")


def key(*changed: Secret, image: str | None = None, **changes: Any) -> str:
    """The key of a spec with everything, where some secrets are others."""
    secrets = [*KNOWN, *changed]
    return made(load.from_body({**EVERYTHING, **changes}), secrets=secrets, image=image).key


@pytest.mark.parametrize("name", ["TOKEN", "ID", "KEY"])
def test_a_secret_that_was_set_again_makes_new_replicas(name: str) -> None:
    assert key(secret(name, f"value of {name}", 2.0)) != key()


def test_the_value_of_a_secret_is_not_in_the_key() -> None:
    assert key(secret("TOKEN", "other"), secret("KEY", "other")) == key()


def test_a_new_password_or_a_secret_of_others_makes_no_new_replicas() -> None:
    assert key(secret("PASSWORD", "other", 2.0), secret("OTHER", "other", 2.0)) == key()


def test_an_image_that_stands_for_something_else_makes_new_replicas() -> None:
    assert len({key(), key(image=DIGEST), key(image=DIGEST.replace("a", "b"))}) == 3


def volume_key(*changed: Secret, **changes: Any) -> str:
    return source([*KNOWN, *changed], **{**S3, **changes}).key


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"url": "s3://bucket/b"},
        {"region": "eu-west-1"},
        {"endpoint": "https://other.test"},
        {"accessKeyId": "AKIA"},
        {"secretAccessKey": "secret:TOKEN"},
    ],
)
def test_another_origin_is_another_volume(changes: dict[str, Any]) -> None:
    assert volume_key(**changes) != volume_key()


def test_a_new_key_to_the_bucket_is_another_volume() -> None:
    assert volume_key(secret("KEY", "value of KEY", 2.0)) != volume_key()
    assert volume_key(secret("KEY", "other")) == volume_key()


def test_another_mount_point_is_the_same_volume_and_another_template() -> None:
    moved = {**S3, "path": "/elsewhere"}
    assert volume_key(path="/elsewhere") == volume_key()
    assert key(integrations=[moved]) != key()


def test_volumes_of_two_types_are_two() -> None:
    git = source(type="git-lfs", name="x", url="https://host/x")
    assert git.key != source(type="s3", name="x", url="s3://host/x").key
    assert len(git.key) == 64


def test_no_value_is_in_a_repr() -> None:
    template = made(load.from_body(EVERYTHING))
    assert template.sources[0].access_key_id == "value of ID"
    assert "value of" not in repr(template) + repr(template.sources) + repr(KNOWN)


def test_stored_models_are_no_source() -> None:
    assert made(load.from_body(body(integrations=[{"type": "model", "id": "m", "name": "m"}]))).sources == ()
