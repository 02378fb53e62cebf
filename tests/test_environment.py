"""pyproject.toml, requirements.lock and environment.yml name the same packages in versions that
agree.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# conda's matplotlib brings a desktop toolkit, its dask a whole distribution.
CONDA_NAMES = {"matplotlib-base": "matplotlib", "dask-core": "dask"}
EXTRAS = ("book", "practice", "cluster", "fast", "test")  # in the lock; `lm`, `binary` are not


def locked() -> dict[str, str]:
    """Name to version; of a package with one version for old Pythons, the newest."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK, flags=re.MULTILINE))


def direct() -> list[Requirement]:
    """What is needed by name: the library, the book, the command, clusters and the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [
        Requirement(text)
        for text in (*project["dependencies"], *(text for name in EXTRAS for text in extras[name]))
    ]


def conda() -> tuple[dict[str, str], dict[str, str]]:
    """Pins of environment.yml: of conda and of its pip section."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pins = dict(entry.split("=") for entry in entries if isinstance(entry, str) and entry != "pip")
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return pins, dict(entry.split("==") for entry in pip if not entry.startswith("-"))


def test_lock_satisfies_every_requirement() -> None:
    versions = locked()
    for requirement in direct():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            requirement
        )


def test_lock_is_exact_hashed_and_names_no_index() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(entries) > 80
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry) and "--hash=sha256:" in entry, entry[:80]
    assert not re.search(
        r"https?:|file:|--index-url|--extra-index-url|--find-links|--trusted-host", LOCK
    )


def test_environment_pins_what_the_lock_pins() -> None:
    versions, (pins, pip) = locked(), conda()
    assert pins.pop("python") == "3.11"
    named = {
        canonicalize_name(CONDA_NAMES.get(name, name)): pin for name, pin in (pins | pip).items()
    }
    assert named == {
        canonicalize_name(r.name): versions[canonicalize_name(r.name)] for r in direct()
    }


@pytest.mark.parametrize("name", ["lm", "binary"])
def test_an_extra_outside_the_lock_has_exact_versions_of_its_own(name: str) -> None:
    text = (ROOT / f"requirements-{name}.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", text, flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["optional-dependencies"][name]):
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert not set(pins) & set(locked())  # two places for one version would drift apart
