"""What engines say when they can't pull, in hale's words. The texts are what they really said."""

import subprocess
import tomllib

import pytest

from hale.core.image import parse_name
from hale.errors import PreparationError
from hale.local.engines.pull_errors import (
    log_in_error,
    not_found,
    pull_error,
    said_denied,
    silent,
    wrong_architecture,
)

HUB = "docker.io/library/web"
PODMAN = "initializing source docker://reg.io/team/web:2: "
SOURCE = f"{PODMAN}reading manifest 2 in reg.io/team/web: "
PING = f"{PODMAN}pinging container registry reg.io: "
RESOLVE = 'failed to resolve reference "reg.io/team/web:2": '
REQUEST = f'{RESOLVE}failed to do request: Head "https://reg.io/v2/team/web/manifests/2": '


def error(said: str, image: str = "reg.io/team/web:2", engine: str = "podman") -> PreparationError:
    return pull_error(image, parse_name(image), said, engine=engine)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        # Podman
        ("image.tag_not_found", f"{SOURCE}manifest unknown: manifest unknown"),
        ("image.not_found", f"{SOURCE}name unknown"),
        ("image.not_found", f"{SOURCE}name unknown: repository name not known to registry"),
        ("image.denied", f"{SOURCE}unauthorized: authentication required"),
        ("image.denied", f"{SOURCE}requested access to the resource is denied"),
        (
            "image.denied",
            f"{SOURCE}errors:\ndenied: requested access to the resource is denied\n"
            "unauthorized: authentication required\n",
        ),
        ("image.denied", f"{SOURCE}unauthorized: The client does not have permission for manifest"),
        (
            "image.denied",
            f"{PODMAN}unable to retrieve auth token: invalid username/password:"
            " unauthorized: incorrect username or password",
        ),
        (
            "image.unreachable",
            f'{PING}Get "https://reg.io/v2/": dial tcp 10.0.0.1:443: connect: connection refused',
        ),
        ("image.unreachable", f'{PING}Get "https://reg.io/v2/": dial tcp: lookup reg.io: no such host'),
        (
            "image.unreachable",
            f'{PING}Get "https://reg.io/v2/": dial tcp: lookup reg.io on 10.0.0.53:53:'
            " dial udp 10.0.0.53:53: connect: network is unreachable",
        ),
        ("image.unreachable", f'{PING}Get "https://reg.io/v2/": dial tcp 10.0.0.1:443: i/o timeout'),
        ("image.unreachable", f'{PING}Get "https://reg.io/v2/": EOF'),
        ("image.unreachable", f"{PING}received unexpected HTTP status: 503 Service Unavailable"),
        (
            "image.untrusted",
            f'{PING}Get "https://reg.io/v2/": x509: certificate signed by unknown authority',
        ),
        (
            "image.untrusted",
            f'{PING}Get "https://reg.io/v2/": http: server gave HTTP response to HTTPS client',
        ),
        (
            "image.wrong_architecture",
            "choosing an image from manifest list docker://reg.io/team/web:2:"
            ' no image found in image index for architecture amd64, variant "", OS linux',
        ),
        (
            "image.disk_full",
            'writing blob: adding layer with blob "sha256:a0b9": processing tar file'
            "(write /big: no space left on device): exit status 1",
        ),
        (
            "image.disk_full",
            "writing blob: storing blob to file: write /var/tmp/storage3/1: no space left on device",
        ),
        # Docker
        ("image.tag_not_found", "manifest for web:2 not found: manifest unknown: manifest unknown"),
        ("image.not_found", "repository reg.io/team/web not found: name unknown: unknown repository"),
        (
            "image.denied",
            "pull access denied for web, repository does not exist or may require 'docker login':"
            " denied: requested access to the resource is denied",
        ),
        ("image.denied", 'Head "https://reg.io/v2/team/web/manifests/2": no basic auth credentials'),
        (
            "image.unreachable",
            'Get "https://reg.io/v2/": net/http: request canceled while waiting for connection'
            " (Client.Timeout exceeded while awaiting headers)",
        ),
        ("image.unreachable", 'Get "https://reg.io/v2/": net/http: TLS handshake timeout'),
        (
            "image.untrusted",
            'Get "https://reg.io/v2/": tls: failed to verify certificate: x509:'
            " certificate is valid for other.io, not reg.io",
        ),
        ("image.wrong_architecture", "no matching manifest for linux/arm64/v8 in the manifest list entries"),
        (
            "image.wrong_architecture",
            "no matching manifest for linux/arm64/v8 in the manifest list entries:"
            " no match for platform in manifest: not found",
        ),
        ("image.disk_full", "failed to register layer: write /opt/model.bin: no space left on device"),
        (
            "image.failed",
            "toomanyrequests: You have reached your pull rate limit. You may increase the limit by"
            " authenticating and upgrading",
        ),
        (
            "image.failed",
            "failed to register layer: Error processing tar file(exit status 1): unexpected EOF in tar",
        ),
        # Docker on containerd
        ("image.tag_not_found", f"{RESOLVE}reg.io/team/web:2: not found"),
        (
            "image.denied",
            f"{RESOLVE}pull access denied, repository does not exist or may require authorization:"
            " server message: insufficient_scope: authorization failed",
        ),
        (
            "image.denied",
            f"{RESOLVE}failed to authorize: failed to fetch anonymous token:"
            " unexpected status from GET request to https://reg.io/token: 401 Unauthorized",
        ),
        (
            "image.unreachable",
            f"{RESOLVE}failed to authorize: failed to fetch anonymous token: 504 Gateway Time-out",
        ),
        ("image.unreachable", f"{REQUEST}dial tcp [::1]:5001: i/o timeout"),
        ("image.untrusted", f"{REQUEST}tls: failed to verify certificate: x509: certificate has expired"),
    ],
)
def test_what_engines_say_is_told_apart(event: str, said: str) -> None:
    assert error(said).event == event


@pytest.mark.parametrize(
    ("said", "fatal"),
    [
        ("manifest unknown", True),
        ("name unknown", True),
        ("unauthorized: authentication required", True),
        ("x509: certificate signed by unknown authority", True),
        ("no matching manifest for linux/amd64", True),
        ("dial tcp: connect: connection refused", False),
        ("no space left on device", False),
        ("toomanyrequests: slow down", False),
        ("something else", False),
    ],
)
def test_what_goes_away_by_itself_is_not_fatal(said: str, fatal: bool) -> None:
    assert error(said).fatal is fatal


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (f"{SOURCE}manifest unknown: manifest unknown", "reg.io has no team/web with the tag 2"),
        (f"{SOURCE}name unknown", "reg.io has no team/web"),
        (f"{SOURCE}unauthorized: authentication required", "reg.io denies access to team/web"),
        (
            f'{PING}Get "https://reg.io/v2/": dial tcp 10.0.0.1:443: connect: connection refused',
            "reg.io can't be reached: connection refused",
        ),
        (
            f'{PING}Get "https://reg.io/v2/": EOF',
            "reg.io can't be reached: pinging container registry reg.io: EOF",
        ),
        (
            f'{PING}Get "https://reg.io/v2/": x509: certificate signed by unknown authority',
            "podman does not trust the certificate of reg.io: certificate signed by unknown authority",
        ),
        ("write /x: no space left on device", "no space is left where podman keeps images"),
        ("unsupported manifest", "unsupported manifest"),
        ("", "it did not say why"),
    ],
)
def test_the_message_says_what_could_not_be_pulled_and_why(said: str, message: str) -> None:
    assert error(said).message == f"cannot pull reg.io/team/web:2: {message}"


def test_the_message_has_the_name_as_it_is_written() -> None:
    assert error("manifest unknown", "web:2").message == (
        "cannot pull web:2: docker.io has no library/web with the tag 2"
    )
    by_digest = error("manifest unknown", f"reg.io/web@sha256:{'0' * 64}").message
    assert by_digest.endswith(f"reg.io has no web with the digest sha256:{'0' * 64}")


def test_every_hint_is_an_action_and_names_the_engine() -> None:
    assert error("no space left on device", engine="docker").hint == (
        "make room there: `docker image prune --all` removes the images that nothing uses"
    )
    assert "curl -i https://reg.io/v2/" in error("connection refused").hint
    assert "/etc/docker/certs.d/reg.io/ca.crt" in error("x509: certificate signed by unknown authority").hint


def test_the_hint_for_a_registry_without_tls_is_run_as_it_is() -> None:
    said = "http: server gave HTTP response to HTTPS client"
    hint = error(said, "reg.io:5000/team/web:2").hint
    assert "/etc/containers/registries.conf && sudo systemctl restart podman`" in hint
    command = hint.split("`")[1].partition(" |")[0]
    conf = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert tomllib.loads(conf) == {"registry": [{"location": "reg.io:5000", "insecure": True}]}
    hint = error(said, "reg.io:5000/team/web:2", engine="docker").hint
    assert '`"insecure-registries": ["reg.io:5000"]` in /etc/docker/daemon.json' in hint


def test_no_secret_that_a_url_carries_is_repeated() -> None:
    said = 'Get "https://robot:hidden@cdn.example.com/blob?Signature=hidden&Key=hidden": stream error'
    assert error(said).message == "cannot pull reg.io/team/web:2: stream error"
    assert "hidden" not in error(f"{said} at https://robot:hidden@cdn.example.com/").message


def test_a_long_text_is_cut() -> None:
    assert len(error("word " * 1000).message) < 250


@pytest.mark.parametrize(
    "said",
    [
        'Get "https://reg.io/v2/": unauthorized: authentication required',
        "login attempt to reg.io failed with status: invalid username/password",
        "login attempt to https://reg.io/v2/ failed with status: 401 Unauthorized",
    ],
)
def test_a_refused_log_in_speaks_of_username_and_password(said: str) -> None:
    refused = log_in_error("reg.io", said, engine="docker")
    assert (refused.message, refused.event) == (
        "cannot log in to reg.io: wrong username or password",
        "image.denied",
    )


def test_a_log_in_fails_for_the_other_reasons_too() -> None:
    failed = log_in_error("reg.io", "dial tcp 10.0.0.1:443: connect: connection refused", engine="docker")
    assert (failed.message, failed.event) == (
        "cannot log in to reg.io: reg.io can't be reached: connection refused",
        "image.unreachable",
    )


def test_who_is_refused_one_image_has_been_let_in() -> None:
    assert said_denied("unauthorized: authentication required")
    assert not said_denied("requested access to the resource is denied")
    assert not said_denied("manifest unknown")


def test_failures_that_no_engine_tells() -> None:
    name = parse_name("web:2")
    assert not_found("web:2", name).message == "cannot pull web:2: docker.io has no library/web"
    assert silent("web:2", name, 300).message == (
        "cannot pull web:2: docker.io can't be reached: nothing came for 300 s: i/o timeout"
    )
    assert wrong_architecture("web:2", "arm64", "amd64").message == (
        "cannot run web:2: it is for arm64, and this machine is amd64"
    )
