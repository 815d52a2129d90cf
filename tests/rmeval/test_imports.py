"""The web process never loads torch: every address, form and view works where torch cannot be imported."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "tokenizers", "safetensors", "scipy"}:
            raise ImportError(f"{name} is not for the web process")

sys.meta_path.insert(0, Blocked())
import django
django.setup()
from django.urls import get_resolver
from rmeval.forms import config_form, family_choices
from rmeval.spec_forms import spec_form
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.objectives import OBJECTIVES
import steelyard.asgi, steelyard.urls, workers.tasks

def walk(patterns):
    for pattern in patterns:
        yield from walk(pattern.url_patterns) if hasattr(pattern, "url_patterns") else [pattern.callback]

print(len(list(walk(get_resolver().url_patterns))), "views")
assert family_choices() and OBJECTIVES.names()
for name, family in FAMILIES.items():
    config_form(family).as_p()
for name, job in JOBS.items():
    spec_form(job.Spec)().as_p()
assert not {"torch", "transformers", "vl_convert"} & set(sys.modules)
"""


def test_the_web_process_needs_no_torch() -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "DJANGO_SETTINGS_MODULE": "steelyard.settings",
        "STEELYARD_DATABASE_URL": "postgresql://nobody@/none",
    }
    told = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.endswith("views\n")
