"""Real git repositories with objects of git-lfs, and a server of them that wants a user and a password."""

import base64
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

USER, TOKEN = "reader", "the-TOKEN"

_ENV = {
    "PATH": os.environ.get("PATH", os.defpath),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


class Repository:
    """A bare repository in `folder`, and a clone of it to write in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder.with_suffix(".clone")
        self._git(None, "init", "--quiet", "--bare", "--initial-branch=main", folder)
        self._git(None, "init", "--quiet", "--initial-branch=main", self.clone)
        self._git(self.clone, "lfs", "install", "--local")
        self._git(self.clone, "remote", "add", "origin", folder)
        (self.clone / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    @property
    def objects(self) -> Path:
        return self.folder / "lfs" / "objects"

    def commit(self, files: Mapping[str, bytes], *, tag: str = "") -> str:
        """Add the files, and push; the commit."""
        for name, content in files.items():
            path = self.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._git(self.clone, "add", "--all")
        self._git(self.clone, "commit", "--quiet", "--message=more")
        if tag:
            self._git(self.clone, "tag", tag)
        self._git(self.clone, "push", "--quiet", "--tags", "origin", "main")
        return self._git(self.clone, "rev-parse", "HEAD").strip()

    def _git(self, folder: Path | None, *arguments: str | Path) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=_ENV, check=True, capture_output=True, text=True
        )
        return done.stdout


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin.replace(year=2120))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@contextmanager
def served(root: Path, *, pem: Path | None = None) -> Iterator[str]:
    """Serve the bare repositories in `root` by HTTP(S), with their objects; the url without a user."""

    class Handler(_Handler):
        folder = root

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if pem else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        if self._refused():
            return
        path, _, query = self.path.partition("?")
        if "/info/lfs/objects/" in path:
            repository, _, oid = path.partition("/info/lfs/objects/")
            content = (self._lfs(repository) / oid[:2] / oid[2:4] / oid).read_bytes()
            self._answer(200, "application/octet-stream", content)
        else:
            self._backend(path, query, b"")

    def do_POST(self) -> None:
        body = self._body()
        if self._refused():
            return
        path, _, query = self.path.partition("?")
        if path.endswith("/info/lfs/objects/batch"):
            repository = path.removesuffix("/info/lfs/objects/batch")
            objects = [self._offer(repository, each) for each in json.loads(body)["objects"]]
            answer = json.dumps({"transfer": "basic", "objects": objects}).encode()
            self._answer(200, "application/vnd.git-lfs+json", answer)
        else:
            self._backend(path, query, body)

    def _offer(self, repository: str, asked: Mapping[str, object]) -> Mapping[str, object]:
        oid = str(asked["oid"])
        if not (self._lfs(repository) / oid[:2] / oid[2:4] / oid).exists():
            return {**asked, "error": {"code": 404, "message": "Object does not exist"}}
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        href = f"{scheme}://{self.headers['Host']}{repository}/info/lfs/objects/{oid}"
        given = {"Authorization": self.headers["Authorization"]}
        return {**asked, "actions": {"download": {"href": href, "header": given}}}

    def _lfs(self, repository: str) -> Path:
        return self.folder / repository.strip("/") / "lfs" / "objects"

    def _refused(self) -> bool:
        wanted = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {wanted}":
            return False
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _backend(self, path: str, query: str, body: bytes) -> None:
        """git's own server, as a CGI."""
        env = _ENV | {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        self._answer(status, fields.get("Content-Type", "text/plain"), content)

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
