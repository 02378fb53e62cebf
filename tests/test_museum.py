"""The museum: entries are complete, and what the page says of a log is what the diagnosis says."""

from __future__ import annotations

import os
from pathlib import Path

import museum
import museum_page
import pytest
import yaml

LOGS = Path(os.environ.get("RLVR_LOGS", ""))
ENTRIES = yaml.safe_load(museum.ENTRIES.read_text(encoding="utf-8"))
NEEDED = {"name", "address", "setting", "happened"}
OF_A_LOG = {"commit", "file", "sha256", "licence"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_entry_is_complete(entry):
    expected = NEEDED | ({*OF_A_LOG, "log"} if "log" in entry else set())
    assert expected <= set(entry) <= expected | {"said"}
    assert entry["address"].startswith("https://")
    if "log" in entry:
        assert entry["address"].endswith(f"/{entry['commit']}/{entry['file']}")
        assert len(entry["commit"]) == 40 and len(entry["sha256"]) == 64


def test_names_are_unique_and_every_log_has_its_diagnosis():
    names = [entry["name"] for entry in ENTRIES]
    assert len(set(names)) == len(names)
    known = museum.known()
    assert list(known) == [entry["name"] for entry in museum.entries()]
    assert all(known[entry["name"]]["sha256"] == entry["sha256"] for entry in museum.entries())


@pytest.mark.parametrize("entry", museum.entries(), ids=lambda entry: entry["name"])
def test_the_diagnosis_is_that_of_the_log(entry):
    if not os.environ.get("RLVR_LOGS") or not (LOGS / entry["log"]).is_file():
        pytest.skip("RLVR_LOGS does not name the folder with the logs")
    line = {name: str(value) for name, value in museum.diagnosed(entry, LOGS).items()}
    assert museum.known()[entry["name"]] == line


def test_another_file_is_refused(tmp_path):
    entry = museum.entries()[0]
    path = tmp_path / entry["log"]
    path.parent.mkdir(parents=True)
    path.write_text("step,reward\n1,0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must be"):
        museum.diagnosed(entry, tmp_path)


def test_what_was_seen_stands_in_the_order_of_the_steps():
    line = {"verdict": "fall", "rows": "9", "warning": "5.0", "halved": "", "notices": ""}
    line["notices"] = "loss from 1 to 2,000, known at step 7; KL from 1 to 2, known at step 3"
    (_, verdict), (_, seen) = museum_page.diagnosis(line)
    assert verdict == "fall, from 9 rows."
    assert seen.index("KL from") < seen.index("the warning") < seen.index("loss from")
    assert museum_page.diagnosis(None) == [("The book's diagnosis", "None: no log is at hand.")]
