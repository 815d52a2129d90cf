"""Write constraints.txt from what is installed: `.venv/bin/python scripts/pin.py` after a deliberate upgrade."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every version that make installs, direct and indirect. From scripts/pin.py: upgrade on purpose, run it again.
# torch is pinned without a build suffix: whatever build of 2.13.0 pip finds first (a CPU wheel at hand, PyPI's) is it.
"""
# Not installed for the tests, so not in the freeze: the `bench` extra.
EXTRA = {"trl": "1.16.0"}


def main() -> None:
    frozen = subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    pins = dict(EXTRA)
    for line in frozen.stdout.splitlines():
        if match := re.match(r"^([A-Za-z0-9._-]+)==([^+\s]+)", line):
            pins[match[1]] = match[2]
    body = "".join(f"{name}=={pins[name]}\n" for name in sorted(pins, key=str.lower))
    (ROOT / "constraints.txt").write_text(HEADER + body)


if __name__ == "__main__":
    main()
