"""Train every family through REST on real data: `python -m bench.rest [names]`, one JSON line each.

Starts a site of its own on a temporary home, or uses one with --url and --token; imports the files of the data pack
(SHARED_DATA) in the published formats, registers, trains, evaluates on held-out pairs and reads the leaderboard.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from bench.rest.entries import ENTRIES
from bench.rest.harness import measure
from bench.rest.language_model import small_model
from bench.rest.rows import DATA, Rows
from bench.rest.site import Api, RefusedError, own_site


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rest", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(ENTRIES)}; all when none is named")
    parser.add_argument("--url", help="a site that runs already")
    parser.add_argument("--token", help="an API token of a user of it who may make projects")
    parser.add_argument("--causal", help="folder of a causal model, instead of a small one made from the texts")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(ENTRIES)):
        parser.error(f"no entry named {', '.join(unknown)}; there are: {', '.join(ENTRIES)}")
    if bool(options.url) != bool(options.token):
        parser.error("--url and --token go together")
    if not DATA.is_dir():
        print(f"skipped: there is no data pack in {DATA} (set SHARED_DATA)")
        return 0
    failed = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="steelyard-lm-")))
        site = (options.url, options.token) if options.url else stack.enter_context(own_site())
        api = Api(*site)

        def backbone(rows: Rows) -> str:
            return options.causal or small_model(folder / f"{len(list(folder.iterdir()))}", rows)

        for name in options.names or ENTRIES:
            try:
                for line in measure(api, name, ENTRIES[name], backbone):
                    print(json.dumps(line, ensure_ascii=False), flush=True)
            except RefusedError as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
