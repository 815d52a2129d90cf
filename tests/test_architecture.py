"""The house rules a machine can check: who imports whom, module size, templates without inline code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("annotator", "rmeval", "workers", "steelyard")
MAX_MODULE_LINES = 400
MAX_SCRIPT_LINES = 150

MODULES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted((ROOT / "static" / "js").glob("*.js"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_module_is_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_script_is_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MAX_SCRIPT_LINES


INLINE = re.compile(r"""<script(?![^>]*\bsrc=)|\sstyle\s*=|\son[a-z]+\s*=\s*["']|hx-on|hx-vals=["']js:|javascript:""")


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_template_has_no_inline_code(path: Path) -> None:
    """The content security policy would block it; better to hear it here."""
    found = [line for line in path.read_text().splitlines() if INLINE.search(line)]
    assert not found, found


def test_nothing_comes_from_another_host() -> None:
    """No CDN: a template may link out, but loads nothing from elsewhere."""
    loads = re.compile(r"""(?:src|srcset)=["']https?://|<link[^>]+href=["']https?://""")
    found = [name_of(path) for path in TEMPLATES if loads.search(path.read_text())]
    assert not found


def test_no_untrusted_pickle() -> None:
    """Weights come as safetensors; nothing is unpickled."""
    pattern = re.compile(r"^\s*(?:import pickle|from pickle|import joblib)|torch\.load\((?!.*weights_only=True)", re.M)
    found = [name_of(path) for path in MODULES if pattern.search(path.read_text())]
    assert not found
