"""A real private registry: Debian's docker-registry, with a password, on a free port of loopback.

Images of kit.images are pushed over HTTP, without an engine; so there can be any: of another architecture,
for several, with layers that no engine here has seen.
"""

import base64
import ctypes
import datetime
import gzip
import ipaddress
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kit.images import Image, digest
from kit.until import until
from s3_server import at_our_end, free_port

_CONFIG = """
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}/content}}
  delete: {{enabled: true}}
http:
  addr: {address}
  secret: not-that-secret
{tls}
auth:
  htpasswd: {{realm: tests, path: {folder}/htpasswd}}
"""
_TLS = "  tls: {{certificate: {folder}/certificate.pem, key: {folder}/key.pem}}"
_TYPES = "application/vnd.oci.image"


class Registry:
    """A context manager; may be stopped and started again in the same place.

    With `tls` it speaks HTTPS with a certificate of its own, which nobody trusts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        username: str = "robot",
        password: str = "robot-secret",
        tls: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.username = username
        self.password = password
        self.host = f"{address}:{free_port()}"
        """As in names of images: `{host}/web:1`."""
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None

    def name(self, image: str) -> str:
        """The whole name of `web:1`."""
        return f"{self.host}/{image}"

    def __enter__(self) -> "Registry":
        self.folder.mkdir(parents=True)
        (self.folder / "htpasswd").write_text(f"{self.username}:{_bcrypt(self.password)}\n")
        tls = _TLS.format(folder=self.folder) if self._tls else ""
        config = _CONFIG.format(folder=self.folder, address=self.host, tls=tls)
        (self.folder / "config.yml").write_text(config)
        verify: ssl.SSLContext | bool = True
        if self._tls:
            _certify(self.folder, self.host.partition(":")[0])
            verify = ssl.create_default_context(cafile=str(self.folder / "certificate.pem"))
        self._client = httpx.Client(
            base_url=self.url, auth=(self.username, self.password), verify=verify, timeout=60, trust_env=False
        )
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    # --- its life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start and return once it answers."""
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/bin"
        binary = shutil.which("docker-registry", path=path)
        assert binary is not None, "docker-registry is not installed: make parts"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "serve", str(self.folder / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": path, "OTEL_TRACES_EXPORTER": "none"},
                preexec_fn=at_our_end(signal.SIGKILL),
            )
        until(self._answers, what=lambda: f"the registry answers; its log: {self.log()}")

    def stop(self) -> None:
        """End it; nobody listens at its port then."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> None:
        self.stop()
        if self._client is not None:
            self._client.close()
        shutil.rmtree(self.folder)

    def pause(self) -> None:
        """Let it hang: connections are made, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # One thread has to run to stop the others, which on a busy machine answer meanwhile.
        state = Path(f"/proc/{self._process.pid}/stat")
        until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", what="the registry is stopped")

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def requests(self, pattern: str = "") -> list[str]:
        """What it was asked for and answered so far: `GET /v2/web/manifests/1 200`, those that match."""
        found = re.findall(r'"([A-Z]+ \S+) HTTP/[\d.]+" (\d+)', self.log())
        lines = [f"{what} {status}" for what, status in found]
        return [line for line in lines if re.search(pattern, line)]

    # --- its content ------------------------------------------------------------------------

    def push(self, image: Image, name: str) -> str:
        """Push under `repository:tag`; its digest, as engines tell it after a pull."""
        repository, _, tag = name.partition(":")
        return self._put_manifest(repository, tag, *self._upload(repository, image))

    def push_all(self, images: Sequence[Image], name: str) -> str:
        """Push one name for several architectures; the digest of the list."""
        repository, _, tag = name.partition(":")
        entries = []
        for image in images:
            manifest, kind = self._upload(repository, image)
            at = self._put_manifest(repository, digest(manifest), manifest, kind)
            platform = {"architecture": image.architecture, "os": image.os}
            entries.append({"mediaType": kind, "digest": at, "size": len(manifest), "platform": platform})
        kind = f"{_TYPES}.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
        return self._put_manifest(repository, tag, json.dumps(index).encode(), kind)

    def delete(self, name: str) -> None:
        """Forget the tag, and its image: nobody can pull it any more, by its digest neither."""
        repository, _, tag = name.partition(":")
        accept = {"Accept": f"{_TYPES}.manifest.v1+json, {_TYPES}.index.v1+json"}
        found = self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", headers=accept)
        self._ask("DELETE", f"/v2/{repository}/manifests/{found.headers['Docker-Content-Digest']}")

    def _upload(self, repository: str, image: Image) -> tuple[bytes, str]:
        """Push all but the manifest; the manifest and its type."""
        layers = [
            self._blob(repository, f"{_TYPES}.layer.v1.tar+gzip", gzip.compress(each, 1, mtime=0))
            for each in image.layers
        ]
        kind = f"{_TYPES}.manifest.v1+json"
        config = self._blob(repository, f"{_TYPES}.config.v1+json", image.config_json)
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
        return json.dumps(manifest).encode(), kind

    def _blob(self, repository: str, kind: str, content: bytes) -> Mapping[str, object]:
        name = digest(content)
        place = self._ask("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        self._ask("PUT", str(httpx.URL(place).copy_merge_params({"digest": name})), content=content)
        return {"mediaType": kind, "digest": name, "size": len(content)}

    def _put_manifest(self, repository: str, reference: str, manifest: bytes, kind: str) -> str:
        headers = {"Content-Type": kind}
        self._ask("PUT", f"/v2/{repository}/manifests/{reference}", content=manifest, headers=headers)
        return digest(manifest)

    def _ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        assert self._client is not None
        answer = self._client.request(method, url, **more)
        assert answer.is_success, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the registry has ended: {self.log()}"
        assert self._client is not None
        try:
            return self._client.get("/v2/").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def _bcrypt(password: str) -> str:
    """As htpasswd -B does it; the C library knows how."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    salt = base64.b64encode(os.urandom(16), altchars=b"./")[:21].decode()
    hashed: bytes | None = crypt(password.encode(), f"$2b$04${salt}u".encode())
    assert hashed is not None, "the C library's crypt knows no bcrypt"
    return hashed.decode()


def _certify(folder: Path, address: str) -> None:
    """A key, and a certificate for the address that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, plain, serialization.NoEncryption()))
