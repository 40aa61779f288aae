"""Replay what Binder does with this repository, step by step, without Docker: `sudo make binder`.

repo2docker prints the Dockerfile that it would build. Its steps are carried out in a fresh Debian system in a chroot,
each as the user that it names, on the last commit; then that user builds the book there, with Docker's 64 MB of shared
memory, and starts the notebook server. Two things are not as on Binder: Debian 12 stands for Ubuntu 24.04 (both have
MariaDB 10.11), and the Python with Binder's own notebook packages comes from Debian and PyPI, not from conda.
Needs root, debootstrap and about 4 GB of disk for a while.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USER, UID = "jovyan", "1000"
SHARED_MEMORY = "64m"
ON_BINDER = ["jupyterlab", "notebook", "jupyter_server", "ipykernel", "ipywidgets", "jupyter-resource-usage"]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CHECKS = [
    "pip check",
    "python -m tools.build",
    "timeout 20 jupyter notebook --no-browser --ip 127.0.0.1 2>&1 | grep -m 1 'is running at'",
]


def main():
    """Replay the Dockerfile in a temporary folder and run the checks; stop at the first failure."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit("This replay needs root and debootstrap: apt-get install debootstrap, then sudo make binder.")
    with tempfile.TemporaryDirectory(prefix="binder-") as folder:
        image = Image(Path(folder))
        for instruction, argument in dockerfile():
            image.carry_out(instruction, argument)
        for check in CHECKS:
            image.run(check)


def dockerfile():
    """Return the (instruction, argument) pairs of the Dockerfile that Binder would build."""
    command = [Path(sys.executable).with_name("jupyter-repo2docker"), "--no-build", "--debug",
               f"--user-id={UID}", f"--user-name={USER}", str(ROOT)]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    text = re.sub(r"\\\n", " ", made.stdout + made.stderr)
    steps = re.findall(r"^([A-Z]+) (.+)$", text[text.index("\nFROM "):], re.MULTILINE)
    return [(instruction, argument.strip()) for instruction, argument in steps]


def binder_packages():
    """Return what Binder has in its environment before it reads the repository: ["jupyterlab==4.4.9", …]."""
    folder = Path(find_spec("repo2docker").origin).parent / "buildpacks/conda"
    python = (ROOT / "binder/runtime.txt").read_text().strip().removeprefix("python-")
    lock = (folder / f"environment.py-{python}-linux-64.lock").read_text()
    found = {name: re.search(rf"/{name}-([\d.]+)-\w+\.conda", lock) for name in ON_BINDER}
    return [f"{name}=={match[1]}" for name, match in found.items()]


class Image:
    """A file system to which a Dockerfile's instructions are applied: its `folder`, `environment`, `user`, `cwd`."""

    def __init__(self, folder):
        self.folder, self.user, self.cwd = folder, "root", "/"
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                            "NB_USER": USER, "NB_UID": UID, "PIP_CERT": CERTIFICATES}

    def carry_out(self, instruction, argument):
        """Apply one instruction; those that only matter to a running container are left out."""
        if instruction == "FROM":
            self.debootstrap()
        elif instruction in ("ARG", "ENV"):
            for name, _, value in (word.partition("=") for word in shlex.split(argument)):
                self.environment[name] = self.expand(value) or self.environment[name]
        elif instruction == "USER":
            self.user = self.expand(argument)
        elif instruction == "WORKDIR":
            self.cwd = self.expand(argument)
        elif instruction == "COPY" and " src/ " in argument:
            self.copy_commit(self.expand(argument.split()[-1]))
        elif instruction == "RUN":
            self.run(self.base_environment() if "install-base-env" in argument else argument)

    def expand(self, text):
        """Return the text with each ${NAME} replaced by its value."""
        return re.sub(r"\$\{(\w+)\}", lambda match: self.environment[match[1]], text)

    def debootstrap(self):
        """Put a minimal Debian into the folder, with this machine's name servers and certificates."""
        packages = "python3-venv,ca-certificates,git"
        self.execute(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(self.folder)])
        self.folder.chmod(0o755)  # a temporary folder is for its owner alone
        shutil.copy("/etc/resolv.conf", self.folder / "etc")
        shutil.copy(CERTIFICATES, self.folder / CERTIFICATES.lstrip("/"))

    def base_environment(self):
        """Return the command that stands for Binder's installation of conda."""
        python = self.expand("${NB_PYTHON_PREFIX}/bin/python")
        packages = shlex.join(binder_packages())
        return (f"python3 -m venv {self.expand('${NB_PYTHON_PREFIX}')} && {python} -m pip install --quiet {packages} "
                f"&& chown -R {USER}:{USER} {self.expand('${CONDA_DIR}')}")

    def copy_commit(self, target):
        """Put the last commit of the repository into `target`, owned by Binder's user."""
        folder = self.folder / target.strip("/")
        archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        self.execute(["chown", "-R", f"{UID}:{UID}", str(folder)])

    def run(self, script):
        """Run a shell command inside, as the present user; its processes and mounts end with it."""
        mounts = (f"mount --rbind /dev {self.folder}/dev && mount -t proc proc {self.folder}/proc && "
                  f"mount -t tmpfs -o size={SHARED_MEMORY} tmpfs {self.folder}/dev/shm && exec \"$@\"")
        become = [] if self.user == "root" else [f"--userspec={UID}:{UID}"]
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        inside = ["env", "-i", *variables, "bash", "-c", f"cd {self.cwd} && {script}"]
        self.execute(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", mounts, "replay",
                      "chroot", *become, str(self.folder), *inside], f"{self.user}: {script}")

    def execute(self, command, shown=""):
        """Run a command and print what it was and how long it took; if it fails, its output too, and stop."""
        start = time.perf_counter()
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        words = " ".join((shown or shlex.join(command)).split())
        print(f"{time.perf_counter() - start:6.1f} s  {words[:100]}", flush=True)
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\nThis step of Binder's build failed: {words}")


if __name__ == "__main__":
    main()
