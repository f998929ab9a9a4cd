"""What programs say, in our words: messages of servers that no test can have at hand."""

import errno

import pytest

from hale.local.volumes.git_lfs import why as git_why
from hale.local.volumes.s3 import why as s3_why
from hale.local.volumes.trouble import of_system
from tests.local.volumes.conftest import source

AWS = "operation error S3: {}, https response error StatusCode: {}, RequestID: X1, HostID: y/z=, api error {}"
GET = "operation error S3: GetObject, https response error StatusCode: 0, RequestID: "


@pytest.mark.parametrize(
    ("said", "event", "fatal", "why"),
    [
        (
            AWS.format("ListObjectsV2", 403, "AccessDenied: User: arn:aws:iam::1:user/x is not authorized"),
            "volume.denied",
            True,
            "user: arn:aws:iam::1:user/x is not authorized",
        ),
        (
            AWS.format("ListObjectsV2", 403, "RequestTimeTooSkewed: The difference between ..."),
            "volume.denied",
            True,
            "the clock of this machine is wrong",
        ),
        (
            AWS.format("ListObjectsV2", 400, "ExpiredToken: The provided token has expired."),
            "volume.denied",
            True,
            "the access key has expired",
        ),
        (
            AWS.format("ListObjectsV2", 404, "NoSuchBucket: The specified bucket does not exist"),
            "volume.not_found",
            True,
            "there is no such bucket",
        ),
        (
            AWS.format("ListObjectsV2", 301, "PermanentRedirect: The bucket you are attempting to access"),
            "volume.failed",
            True,
            "the bucket is in another region",
        ),
        (
            AWS.format("ListObjectsV2", 400, "AuthorizationHeaderMalformed: expecting 'eu-west-1'"),
            "volume.failed",
            True,
            "the bucket is in another region",
        ),
        (
            AWS.format("GetObject", 503, "SlowDown: Please reduce your request rate."),
            "volume.unreachable",
            False,
            "please reduce your request rate",
        ),
        (
            f'{GET}, request send failed, Get "https://h/b": tls: failed to verify certificate: x509: bad',
            "volume.failed",
            False,
            'get "https://h/b": tls: failed to verify certificate: x509: bad',
        ),
        (
            f'{GET}, request send failed, Get "https://h/b": dial tcp: lookup h: no such host',
            "volume.unreachable",
            False,
            "lookup h: no such host",
        ),
        (
            "Failed to copy: failed to open source object: unexpected EOF",
            "volume.unreachable",
            False,
            "failed to open source object: unexpected EOF",
        ),
        (
            "Failed to copy: write /x: no space left on device",
            "volume.disk_full",
            False,
            "no space left on the disk",
        ),
        ("Failed to copy: is a directory", "volume.failed", False, "is a directory"),
        ("", "volume.failed", False, "it ended without a word"),
    ],
)
def test_what_rclone_says(said: str, event: str, fatal: bool, why: str) -> None:
    keyed = source("s3", access_key_id="kkk", secret_access_key="sss")
    failure = s3_why(keyed, [said] if said else [])
    assert (failure.event, failure.fatal, failure.why) == (event, fatal, why)


@pytest.mark.parametrize(
    ("said", "event", "fatal"),
    [
        ("remote: Repository not found.|fatal: repository 'h' not found", "volume.not_found", True),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "volume.denied", True),
        ("fatal: Authentication failed for 'https://h/x/'", "volume.denied", True),
        ("git@h: Permission denied (publickey).|fatal: Could not read", "volume.denied", True),
        ("Host key verification failed.|fatal: Could not read", "volume.denied", True),
        ("fatal: detected dubious ownership in repository at '/srv/x'", "volume.denied", True),
        ("ssh: Could not resolve hostname h: Name or service not known", "volume.unreachable", False),
        ("error: RPC failed; curl 18 transfer closed|fatal: early EOF", "volume.unreachable", False),
        ("fatal: unable to access 'h': URL returned error: 503", "volume.unreachable", False),
        ("fatal: unable to access 'https://h/': SSL certificate problem: expired", "volume.failed", False),
        ("fatal: unable to access 'https://h/': Operation too slow.", "volume.unreachable", False),
        ("LFS: Get \"https://h/o\": dial tcp 1.2.3.4:443: i/o timeout", "volume.unreachable", False),
        ("batch response: Repository or object not found: https://h/x/info/lfs", "volume.not_found", True),
        ("batch response: Authentication required: You must be logged in", "volume.denied", True),
        ("fatal: write error: No space left on device|fatal: index-pack failed", "volume.disk_full", False),
        ("fatal: dumb http transport does not support shallow capabilities", "volume.failed", False),
    ],
)  # fmt: skip
def test_what_git_says(said: str, event: str, fatal: bool) -> None:
    failure = git_why(source("git-lfs", url="https://h/x"), said.split("|"))
    assert (failure.event, failure.fatal) == (event, fatal)


def test_who_gives_no_keys_is_told_that_it_takes_some() -> None:
    said = AWS.format("ListObjects", 400, "UnsupportedAlgorithm: Encountered an unsupported algorithm.")
    assert s3_why(source("s3"), [said]).why == "it is not open to everybody"
    keyed = source("s3", access_key_id="kkk", secret_access_key="sss")
    assert s3_why(keyed, [said]).why == "encountered an unsupported algorithm"


def test_secrets_are_not_repeated_whoever_says_them() -> None:
    keys = {"access_key_id": "AKIA123", "secret_access_key": "hush hush"}
    failure = s3_why(source("s3", **keys), ["Failed to copy: key AKIA123 with hush hush is odd"])
    assert failure.why == "key *** with *** is odd"
    failure = git_why(source("git-lfs", url="https://me:se%40cret@h/x"), ["fatal: se@cret is odd"])
    assert failure.why == "*** is odd"


@pytest.mark.parametrize(
    ("url", "said", "why"),
    [
        pytest.param(
            "https://u:secret@h/x", "could not resolve host: h", "could not resolve host: h", id="short user"
        ),
        pytest.param(
            "https://u:secret@h/x",
            "no answer of https://u@h/x",
            "no answer of https://***@h/x",
            id="of a url",
        ),
        pytest.param("https://me:some@h/x", "me and some", "me and ***", id="user in the password"),
        pytest.param("https://TOKEN1@h/x", "bad TOKEN1, TOKEN12", "bad ***, TOKEN12", id="a token alone"),
        pytest.param("https://u@h/x", "could not, u", "could not, ***", id="a short name alone"),
        pytest.param("https://h/x?key=K1", "bad /x?key=K1", "bad /x?***", id="query"),
        pytest.param("ssh://u:secret@h/x", "u:secret@h: bad", "u:***@h: bad", id="ssh"),
        pytest.param(
            "https://h/x", "redirect to https://a:b@c/d@e", "redirect to https://***@c/d@e", id="other"
        ),
    ],
)
def test_users_are_masked_where_they_are_users_and_passwords_everywhere(
    url: str, said: str, why: str
) -> None:
    assert git_why(source("git-lfs", url=url), [f"fatal: {said}"]).why == why


def test_an_access_key_that_is_a_part_of_words_does_not_blot_them_out() -> None:
    keyed = source("s3", access_key_id="dial", secret_access_key="hush")
    assert s3_why(keyed, ["Failed to copy: redialled as dial"]).why == "redialled as ***"


@pytest.mark.parametrize(
    ("number", "event"),
    [
        (errno.ENOSPC, "volume.disk_full"),
        (errno.EDQUOT, "volume.disk_full"),
        (errno.EROFS, "volume.failed"),
    ],
)
def test_what_the_system_says(number: int, event: str) -> None:
    assert of_system(OSError(number, "Why not", "/x")).event == event
