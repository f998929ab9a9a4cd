"""`hale render`: a spec as manifests for a cluster, on stdout; what is different there, on stderr."""

import sys
from pathlib import Path

from hale.cli import output, specs
from hale.kubernetes import written
from hale.kubernetes.manifests import Rendered, render
from hale.kubernetes.settings import Settings, read, refused
from hale.spec.problems import Problem


def show(
    spec: str,
    name: str | None,
    *,
    settings: Path | None,
    namespace: str | None,
    domain: str | None,
    json: bool,
) -> None:
    """No server is asked and no secret is needed."""
    cluster = _settings(settings).changed(namespace=namespace, domain=domain)
    loaded, _ = specs.load(spec, name)
    rendered = render(loaded, cluster)
    ascii_only = not output.speaks_utf8()
    text = (written.json_list if json else written.yaml)(rendered.objects, ascii_only=ascii_only)
    sys.stdout.write(text)
    output.flush()
    _tell(rendered)


def _tell(rendered: Rendered) -> None:
    for note in [*rendered.notes, *rendered.secrets]:
        output.say(f"note: {note}")


def _settings(file: Path | None) -> Settings:
    if file is None:
        return Settings()
    try:
        text = file.read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise refused([Problem("", why, str(file))]) from error
    return read(text, str(file))
