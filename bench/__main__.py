"""Run the benchmarks, each in a process of its own: `make bench`, or `make bench ARGS="claims live"`.

Each prints JSON lines; ratios are measured side by side in one run. `--full` uses the sizes of the design (1M rows).
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(names())}; all when none is named")
    parser.add_argument("--full", action="store_true", help="the sizes of the design: 1M pairs, 1M items")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(names())}")
    failed = []
    for name in options.names or names():
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", f"bench.bench_{name}", *(["--full"] if options.full else [])]
        done = subprocess.run(command, cwd=HERE.parent, check=False)
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
