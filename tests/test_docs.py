"""Documentation is tested: what is registered is described, and links lead somewhere."""

import re
from pathlib import Path

import pytest

from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parent.parent
METHODS = sorted({*FAMILIES.names(), *OBJECTIVES.names()})
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#|mailto:)([^)#\s]+)")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page(name: str) -> None:
    page = ROOT / "docs" / "methods" / f"{name}.md"
    assert page.exists(), f"write docs/methods/{name}.md: what it is, its source, its limits"
    assert len(page.read_text().split()) > 60


@pytest.mark.parametrize("registry", [FAMILIES, OBJECTIVES, JOBS], ids=["families", "objectives", "jobs"])
def test_every_entry_says_what_it_is(registry: object) -> None:
    for name, entry in registry.items():  # type: ignore[attr-defined]
        assert (entry.__doc__ or "").strip(), f"{name} lacks a docstring"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not broken
