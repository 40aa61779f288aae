"""Dependencies: written once in pyproject.toml, compiled to exact versions, and the same in Binder."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLATFORMS = [
    {"python_version": version, "python_full_version": f"{version}.9", "sys_platform": platform}
    for version in ("3.11", "3.12", "3.13") for platform in ("linux", "darwin")
]


def lines(name):
    """Return a requirements or apt file's lines without comments."""
    stripped = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in stripped if line]


def pins(name, platform):
    """Return the versions by package that a requirements file installs on a platform."""
    requirements = [Requirement(line) for line in lines(name) if not line.startswith("-")]
    assert all(re.fullmatch(r"==[\w.]+", str(each.specifier)) for each in requirements), "every version is exact"
    wanted = [each for each in requirements if not each.marker or each.marker.evaluate(platform)]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in wanted}


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda each: f"{each['sys_platform']}-{each['python_version']}")
def test_compiled_requirements_meet_what_the_project_asks(platform):
    """On each platform and Python, requirements.txt holds a fitting version of all that pyproject.toml names."""
    book = pins("requirements.txt", platform)
    tests = pins("tests/requirements.txt", platform)
    assert not set(book) & set(tests), "a version is written once"
    asked = [(line, book) for line in PROJECT["dependencies"]]
    asked += [(line, book | tests) for line in PROJECT["optional-dependencies"]["dev"]]
    for line, versions in asked:
        requirement = Requirement(line)
        if not requirement.marker or requirement.marker.evaluate(platform):
            version = versions.get(canonicalize_name(requirement.name))
            assert version and requirement.specifier.contains(version), f"{line}: found {version}; run make lock"


def test_requirements_name_no_place():
    """Requirements come from the reader's own index: no address and no path beside the project's own."""
    compiled = ["requirements.txt", "tests/requirements.txt", "tests/requirements-aws-cli.txt"]
    for name in [*compiled, "binder/requirements.txt"]:
        assert not [line for line in lines(name) if re.search(r"[:/]", line) and line != "-r ../requirements.txt"]
    assert [line for line in lines("requirements.txt") if line.startswith("-")] == ["-e ."]


@pytest.fixture(scope="module")
def dockerfile():
    """Return the Dockerfile that Binder would build, continued lines joined."""
    command = [Path(sys.executable).with_name("jupyter-repo2docker"), "--no-build", "--debug",
               "--user-id=1000", "--user-name=jovyan", ROOT]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    text = re.sub(r"\\\n\s*", "", made.stdout + made.stderr)
    return text[text.index("\nFROM "):].splitlines()


def test_binder_installs_the_books_requirements(dockerfile):
    """Binder installs the same engines and the same versions, as its user, after the project itself is there."""
    assert lines("binder/requirements.txt")[0] == "-r ../requirements.txt"
    engines = " ".join(sorted(lines("binder/apt.txt")))
    assert any(f"--no-install-recommends {engines} &&" in line for line in dockerfile)
    pip = next(index for index, line in enumerate(dockerfile) if '-r "binder/requirements.txt"' in line)
    assert any(line.startswith("COPY") and " src/ " in line for line in dockerfile[:pip]), "-e . needs the repository"
    assert [line for line in dockerfile[:pip] if line.startswith("USER")][-1] == "USER ${NB_USER}"


def test_binder_has_a_python_that_the_book_supports(dockerfile):
    """Binder's Python is 3.12; a third number in runtime.txt would make it fall back to another in silence."""
    assert lines("binder/runtime.txt") == ["python-3.12"]
    assert any("environment-2epy-2d3-2e12" in line for line in dockerfile)
