"""Variables in commands and values, and what a process finds around it."""

import pytest

from hale.core.deployment import Template
from hale.core.volume import Mount, Source
from hale.local.engines.environment import setting, unenforced
from hale.local.engines.expand import expand


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        pytest.param("--port=$PORT", "--port=4000", id="a name"),
        pytest.param("${PORT}0", "40000", id="a name in braces"),
        pytest.param("$PORT_8000:$PORT", "4001:4000", id="the longest name counts"),
        pytest.param("$$PORT", "$PORT", id="two signs are one, and no name follows"),
        pytest.param("$$$PORT", "$4000", id="a literal sign before a name"),
        pytest.param("$NOBODY ${NOBODY}", "$NOBODY ${NOBODY}", id="an unknown name stays"),
        pytest.param(
            "$5 $ ${} ${PORT $(PORT) 100%", "$5 $ ${} ${PORT $(PORT) 100%", id="what is no name stays"
        ),
        pytest.param("$SELF", "$PORT", id="what is put in is not looked at again"),
        pytest.param("$PORTä", "4000ä", id="names are ASCII"),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    assert expand(text, {"PORT": "4000", "PORT_8000": "4001", "SELF": "$PORT"}) == expanded


def test_the_environment_is_clean() -> None:
    own = {"PATH": "/bin", "HOME": "/root", "LANG": "C", "TMPDIR": "/t", "VIRTUAL_ENV": "/v", "SECRET": "x"}
    around = setting(Template("k", ("run",)), {8000: 4000, 9000: 4001}, own, mark="r1.1")
    assert dict(around.env) == {
        "PATH": "/bin",
        "HOME": "/root",
        "LANG": "C",
        "TMPDIR": "/t",
        "VIRTUAL_ENV": "/v",
        "HOST": "127.0.0.1",
        "HALE_ATTEMPT": "r1.1",
        "PORT": "4000",
        "PORT_8000": "4000",
        "PORT_9000": "4001",
    }


def test_the_specs_variables_win_over_inherited_ones_and_use_those_before_them() -> None:
    template = Template(
        "k", ("$A", "$B", "${PATH}"), env=(("PATH", "/x:$PATH"), ("A", "1"), ("B", "$A-$PORT"))
    )
    around = setting(template, {8000: 4000}, {"PATH": "/bin"}, mark="m")
    assert around.argv == ("1", "1-4000", "/x:/bin")


def test_hales_variables_win_with_a_note() -> None:
    template = Template("k", ("run",), env=(("PORT", "80"), ("HOST", "0.0.0.0"), ("PORT_1", "free")))
    around = setting(template, {8000: 4000}, {}, mark="m")
    assert (around.env["PORT"], around.env["HOST"], around.env["PORT_1"]) == ("4000", "127.0.0.1", "free")
    assert [note.split(" is ")[0] for note in around.notes] == ["env: PORT", "env: HOST"]


def test_integrations_are_found_by_variables_that_win_with_a_note() -> None:
    mounts = (
        Mount("opus-mt.en", "/data/v/opus", "/opt/integrations/opus-mt.en"),
        Mount("work", "/data/v/work", "/opt/integrations/work", writable=True),
    )
    env = (("MODEL", "$HALE_INTEGRATION_OPUS_MT_EN/model"), ("HALE_INTEGRATION_WORK", "/elsewhere"))
    template = Template("k", ("run", "${HALE_INTEGRATION_WORK}"), env=env, mounts=mounts)
    around = setting(template, {}, {}, mark="m")
    assert around.argv == ("run", "/data/v/work")
    assert {name: around.env[name] for name in ("MODEL", "HALE_INTEGRATION_OPUS_MT_EN")} == {
        "MODEL": "/data/v/opus/model",
        "HALE_INTEGRATION_OPUS_MT_EN": "/data/v/opus",
    }
    assert around.env["HALE_INTEGRATION_WORK"] == "/data/v/work"
    assert [note.split(" is ")[0] for note in around.notes] == ["env: HALE_INTEGRATION_WORK"]


def test_to_root_nothing_is_read_only_and_a_note_says_so() -> None:
    sources = (Source("falcon", "s3", "k", "/x"), Source("scratch", "volume", "scratch", "/y"))
    template = Template("k", ("run",), sources=sources)
    (note,) = unenforced(template, root=True)
    assert "falcon" in note
    assert "scratch" not in note
    assert unenforced(template, root=False) == unenforced(Template("k"), root=True) == ()
