"""Options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", envvar="HALE_DATA", help="The daemon's data folder.")
]
Project = Annotated[str | None, typer.Option("--project", metavar="PROJECT", help="A project's name or id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
