"""Nothing of the reader's is lost: no command writes over what it reads, over a device, a link, or
a file that it did not write.
"""

import json
import os
import stat

import pytest
from typer.testing import CliRunner

from rlvrlib.command.app import app
from rlvrlib.running.files import PAGE, refuse_to_lose, write_whole

ROWS = "".join(json.dumps({"step": n, "reward": n / 40}) + "\n" for n in range(30))


def diagnose(*words):
    return CliRunner().invoke(app, ["diagnose", *map(str, words)])


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(ROWS)
    return path


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("how", ["same", "symlink", "hard link", "other spelling"])
def test_a_log_is_never_overwritten(log, how, force):
    target = log.with_name("page.html")
    if how == "symlink":
        target.symlink_to(log)
    elif how == "hard link":
        target.hardlink_to(log)
    else:
        target = log if how == "same" else log.parent / ".." / log.parent.name / log.name
    result = diagnose(log, "--html", target, *force)
    assert result.exit_code == 2 and "what the command reads" in result.output
    assert log.read_text() == ROWS and sorted(os.listdir(log.parent)) in (
        ["log.jsonl"],
        ["log.jsonl", "page.html"],
    )


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_file_stays(log, kind, force):
    target = log.with_name("page.html")
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        try:
            os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    before = target.stat()
    result = diagnose(log, "--html", target, *force)
    assert result.exit_code == 2 and "must be a file to write" in result.output
    assert (target.stat().st_mode, target.stat().st_ino) == (before.st_mode, before.st_ino)


def test_a_link_is_replaced_only_by_force_and_its_target_never(log):
    other, link = log.with_name("other.html"), log.with_name("page.html")
    other.write_text("mine")
    link.symlink_to(other)
    result = diagnose(log, "--html", link)
    assert result.exit_code == 2 and "is a link" in result.output and link.is_symlink()
    assert diagnose(log, "--html", link, "--force").exit_code in (0, 10)
    assert not link.is_symlink() and PAGE in link.read_text() and other.read_text() == "mine"


def test_another_file_is_replaced_only_by_force_and_a_page_of_ours_without(log):
    page = log.with_name("page.html")
    page.write_text("mine")
    page.chmod(0o600)
    result = diagnose(log, "--html", page)
    assert result.exit_code == 2 and "was not written by this command" in result.output
    assert page.read_text() == "mine"
    for options in (["--force"], []):
        assert diagnose(log, "--html", page, *options).exit_code in (0, 10)
        assert PAGE in page.read_text() and stat.S_IMODE(page.stat().st_mode) == 0o600


def test_an_empty_file_has_nothing_to_lose(tmp_path):
    path = tmp_path / "page.html"
    path.touch()
    refuse_to_lose(path, PAGE)
    write_whole(path, "text")
    assert path.read_text() == "text"


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["run"], ["small.html", "small.ipynb"]),
        (["sweep", "-g", "seed=1"], ["claims.csv", "seconds.csv", "overview.html"]),
    ],
)
def test_run_and_sweep_leave_other_files_alone(tmp_path, command, names):
    notebook = tmp_path / "small.ipynb"
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": "a",
        "metadata": {"tags": ["parameters"]},
        "outputs": [],
        "source": "seed: int = 0  # seed, any non-negative integer",
    }
    notebook.write_text(
        json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    for name in names:
        out = tmp_path / name.replace(".", "_")
        out.mkdir()
        (out / name).write_text("mine")
        words = [command[0], str(notebook), *command[1:], "--out", str(out)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2 and "was not written by this command" in result.output
        assert (out / name).read_text() == "mine"
