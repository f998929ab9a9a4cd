"""Variables mean on a cluster what they mean on one machine."""

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.core.secret import reference
from hale.local.engines.expand import expand
from hale.spec.problems import SpecError
from tests.kubernetes import kubelet
from tests.kubernetes.cluster import container, said
from tests.kubernetes.cluster import given as rendered

SECRETS = {"S": "s3cret$A$(A)$$", "T": "$"}
"""Values are taken as they are, whatever is in them."""


def env(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"env": [{"name": name, "value": value} for name, value in pairs]}


def on_one_machine(config: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The variables and the command of a container there, of an image that has none."""
    made = {"HOST": "0.0.0.0", "PORT": "8000", "PORT_8000": "8000"}
    for each in config.get("env", ()):
        name = reference(each["value"])
        made[each["name"]] = expand(each["value"], made) if name is None else SECRETS[name]
    return made, [expand(word, made) for word in config.get("command", ())]


def on_a_cluster(config: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    found = container(rendered(config))
    variables = kubelet.environment(found["env"], SECRETS)
    return variables, [kubelet.expanded(word, variables) for word in found.get("command", ())]


value = st.text(string.ascii_uppercase[:5] + "${}()_8", min_size=1, max_size=12) | st.sampled_from(
    ["secret:S", "secret:T", "$A", "x${B}y", "$$A", "$(A)", "$PORT", "${PORT_8000}$C", "$HOST"]
)
pair = st.fixed_dictionaries({"name": st.sampled_from("ABCD"), "value": value})
config = st.fixed_dictionaries({"env": st.lists(pair, max_size=5), "command": st.lists(value, max_size=3)})


@given(config)
@settings(deadline=None, max_examples=400)
def test_a_container_gets_the_same_on_a_cluster_as_on_one_machine(config: dict[str, Any]) -> None:
    config["command"] = [word for word in config["command"] if not word.startswith("secret:")]
    try:
        found = on_a_cluster(config)
    except SpecError as error:
        assert all("is there more than once" in problem.message for problem in error.problems)  # noqa: PT017
        return
    assert found == on_one_machine(config)


def test_a_secret_is_named_and_never_printed() -> None:
    found = rendered(env(("KEY", "secret:API_KEY"), ("URL", "https://u:$KEY@host")))
    assert container(found)["env"][-2:] == [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "web-secrets", "key": "API_KEY"}}},
        {"name": "URL", "value": "https://u:$(KEY)@host"},
    ]
    assert [str(each) for each in found.secrets] == [
        "Secret web-secrets of type Opaque is needed, with API_KEY: the secret API_KEY"
    ]


def test_variables_of_the_spec_go_before_those_of_hale() -> None:
    found = container(rendered(env(("PORT", "9"), ("A", "$PORT"))))
    assert kubelet.environment(found["env"], {})["A"] == "9"
    assert [each["name"] for each in found["env"]] == ["HOST", "PORT_8000", "PORT", "A"]


def test_a_name_that_only_the_image_may_know_stays_and_is_noted() -> None:
    found = rendered({"command": ["sh", "-c", "ls $PATH ${HOME} $PORT"]})
    assert container(found)["command"][2] == "ls $$PATH $${HOME} 8000"
    assert [note.path for note in found.notes] == ["command[2]", "command[2]"]
    assert said(found)["command[2]"].startswith("${HOME} stays as it is written")


def test_of_a_name_that_is_there_twice_the_last_one_counts() -> None:
    found = rendered(env(("A", "1"), ("B", "$A"), ("A", "2")))
    assert kubelet.environment(container(found)["env"], {}) | {"HOST": ""} == {
        "HOST": "", "PORT": "8000", "PORT_8000": "8000", "A": "2", "B": "1",
    }  # fmt: skip
    assert said(found)["env"] == "has A more than once: the last one counts"


def test_a_secret_that_is_there_twice_can_not_be_used_by_others() -> None:
    with pytest.raises(SpecError) as error:
        rendered(env(("A", "secret:S"), ("B", "$A"), ("A", "2")))
    assert [problem.path for problem in error.value.problems] == ["env[1].value"]


@pytest.mark.parametrize("name", ["1A", "é", "A B", ".", "..A", "A/B"])
def test_a_name_that_no_cluster_takes_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as error:
        rendered(env(("OK", "x"), (name, "x")))
    assert [problem.path for problem in error.value.problems] == ["env[1].name"]


@pytest.mark.parametrize("name", ["A.B", "a-b", "_", "-", ".A"])
def test_a_name_that_every_cluster_takes_stays(name: str) -> None:
    assert container(rendered(env((name, "x"))))["env"][-1] == {"name": name, "value": "x"}


def test_variables_that_grow_without_end_are_refused_at_once() -> None:
    doubling = [("A", "x" * 1000), *((name, "$A$A") for name in ["A"] * 200)]
    with pytest.raises(SpecError, match="becomes longer than 128 KiB"):
        rendered(env(*doubling))
