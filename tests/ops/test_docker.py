"""The images and the compose file, as far as they can be checked without Docker."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
TEXT = (DOCKER / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def command_of(name: str) -> list[str]:
    """What the service runs: its own command, else its image's."""
    if "command" in SERVICES[name]:
        return list(SERVICES[name]["command"])
    dockerfile = (ROOT / SERVICES[name]["build"]["dockerfile"]).read_text()
    (found,) = re.findall(r"^CMD (\[.*\])\s*\Z", dockerfile.replace("\\\n", ""), flags=re.MULTILINE | re.DOTALL)
    return list(yaml.safe_load(found))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    binary = str(hadolint) if hadolint.exists() else shutil.which("hadolint")
    if binary is None:
        pytest.skip("hadolint has no wheel for this platform")
    done = subprocess.run([binary, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_install_a_profile_there_is_and_run_as_nobody_special(path: Path) -> None:
    text = path.read_text()
    (profile,) = re.findall(r"RUN .*python scripts/bootstrap\.py (\w+)", text)
    assert f'"{profile}": [' in (ROOT / "scripts" / "bootstrap.py").read_text()
    assert "\nUSER 1000\n" in text
    assert "\nHEALTHCHECK " in text
    for copied in re.findall(r"^COPY --chown=steelyard ([^.].*) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


@pytest.mark.parametrize("name", OURS)
def test_services_are_built_from_files_and_run_what_exists(name: str) -> None:
    assert (ROOT / OURS[name]["build"]["dockerfile"]).is_file()
    command = command_of(name)
    if command[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(command[2]) is not None
    elif command[:2] == ["python", "manage.py"]:
        assert command[2] in get_commands()
    else:
        assert command[:4] == ["celery", "-A", "steelyard.celery", "worker"]


def test_every_queue_has_a_worker_and_every_dependency_is_a_service() -> None:
    workers = [command_of(name) for name in OURS if command_of(name)[0] == "celery"]
    listened = {queue for command in workers for queue in command[command.index("-Q") + 1].split(",")}
    assert listened == {"default", "gpu", "judge"}
    assert {needed for service in SERVICES.values() for needed in service.get("depends_on", {})} <= set(SERVICES)
    volumes = {line.split(":")[0] for service in SERVICES.values() for line in service.get("volumes", [])}
    assert volumes == set(yaml.safe_load(TEXT)["volumes"])


def test_the_example_has_every_secret_and_only_settings_that_are_read() -> None:
    example = dict(line.split("=", 1) for line in (DOCKER / "example.env").read_text().splitlines() if "=" in line[:40])
    example = {name: value for name, value in example.items() if not name.startswith("#")}
    assert set(re.findall(r"\$\{(\w+):\?", TEXT)) <= set(example)
    read = "".join(path.read_text() for path in (ROOT / "steelyard").glob("*.py"))
    named = {*example, *SERVICES["web"]["environment"]} - {"POSTGRES_PASSWORD"}
    assert not {name for name in named if f'"{name}"' not in read}
