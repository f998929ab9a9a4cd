"""What is remembered of containers is read by another version of hale."""

import json
from pathlib import Path

from hale.local.engines.container_records import FILE, Known, remember, remembered
from hale.local.engines.records import Records
from hale.ports import Instance

KNOWN = Known("c1", "SIGTERM", Instance("r1", 1, 5.0, "10.89.0.2", {8000: 8000}, notes=("odd",)), "boot")


def test_fields_that_came_later_and_those_of_later_versions_are_no_obstacle(tmp_path: Path) -> None:
    records = Records(tmp_path)
    folder = records.attempt("r1", 1)
    folder.mkdir(parents=True)
    remember(records, KNOWN)
    written = json.loads((folder / FILE).read_text())
    del written["instance"]["removed"]
    written["instance"]["colour"] = "red"
    (folder / FILE).write_text(json.dumps(written))
    assert list(remembered(records)) == [KNOWN]
