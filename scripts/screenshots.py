"""Take the README's screenshots from the running demo.

    make up                                      # in another terminal
    .venv/bin/python scripts/screenshots.py --url http://127.0.0.1:8000 --password <printed by make up>

Each picture is one page as a demo user sees it; every page is also taken dark and narrow with --all, for looking at.
"""

import argparse
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

OUT = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDE, NARROW = {"width": 1360, "height": 860}, {"width": 420, "height": 860}


@dataclass(frozen=True)
class Shot:
    """One picture: who looks, the links to follow from the demo project's page, and the file's name."""

    name: str
    user: str
    follow: tuple[str, ...]
    wait_for: str = "main"


SHOTS = (
    Shot("project", "lead", ()),
    Shot("dataset", "lead", ("a[href$='/datasets/']", "main a[href*='/datasets/']:not([href$='/new/'])")),
    Shot("queue", "lead", ("a[href$='/queues/']", "main a[href*='/queues/']:not([href$='/new/'])")),
    Shot("annotate", "ann1", ("a[href*='/annotate/'] >> nth=1",)),
    Shot("runs", "researcher", ("a[href$='/runs/']",)),
    Shot("run", "researcher", ("a[href$='/runs/']", "main a[href^='/runs/']:has-text('Train a reward model')")),
    Shot("leaderboard", "researcher", ("a[href$='/leaderboards/']", "main a[href^='/leaderboards/']")),
)


def chromium_path() -> str | None:
    return os.environ.get("STEELYARD_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def log_in(page: Page, url: str, user: str, password: str) -> None:
    page.goto(f"{url}/login/?next=/")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")
    page.wait_for_load_state("networkidle")


def open_demo_project(page: Page, url: str) -> None:
    page.goto(url)
    link = page.locator("main a[href*='/projects/']").filter(has_text=re.compile("demo", re.I)).first
    if not link.count():
        link = page.locator("main a[href^='/projects/']:not([href$='/new/'])").first
    link.click()
    page.wait_for_load_state("networkidle")


def take(browser: Browser, shot: Shot, options: argparse.Namespace, *, scheme: str, narrow: bool, to: Path) -> None:
    context = browser.new_context(viewport=NARROW if narrow else WIDE, color_scheme=scheme, device_scale_factor=1)
    page = context.new_page()
    page.on("pageerror", lambda error: print(f"{shot.name}: script error: {error}"))
    page.on("console", lambda m: print(f"{shot.name}: console: {m.text}") if m.type == "error" else None)
    log_in(page, options.url, shot.user, options.password)
    open_demo_project(page, options.url)
    for selector in shot.follow:
        page.locator(selector).first.click()
        page.wait_for_load_state("networkidle")
    page.wait_for_selector(shot.wait_for)
    page.wait_for_timeout(400)
    page.screenshot(path=to)
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--password", required=True)
    parser.add_argument("--only", default="", help="comma-separated names")
    parser.add_argument("--all", type=Path, help="also write every page light, dark and narrow into this folder")
    options = parser.parse_args()
    wanted = [s for s in SHOTS if not options.only or s.name in options.only.split(",")]
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=arguments)
        for shot in wanted:
            if options.all:
                options.all.mkdir(parents=True, exist_ok=True)
                for scheme, narrow in (("light", False), ("dark", False), ("light", True)):
                    name = f"{shot.name}-{scheme}{'-narrow' if narrow else ''}.png"
                    take(browser, shot, options, scheme=scheme, narrow=narrow, to=options.all / name)
            else:
                take(browser, shot, options, scheme="light", narrow=False, to=OUT / f"{shot.name}.png")
            print(shot.name)
        browser.close()


if __name__ == "__main__":
    main()
