"""The model card that goes with an exported checkpoint: README.md with front matter that the hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

LEARNT = "trained on it"
LEARNT_MEANS = (
    f"A row with the mark *{LEARNT}* is no measure of new pairs: the model has learnt from this data, or from a part"
    " of it."
)

SAME_NAME = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0"
    " cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0"
    " cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0"
    " cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1"
    " gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa ofl-1.1 osl-3.0 postgresql unlicense"
    " wtfpl zlib"
)
#: Identifiers that the hub's front matter takes, by the SPDX name in lower case.
HUB_LICENCES = {
    **{name: name for name in SAME_NAME.split()},
    **{
        f"{name}-{which}": name
        for name in ("agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0")
        for which in ("only", "or-later")
    },
    "c-uda-1.0": "c-uda",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
}


def model_card(facts: Mapping[str, Any], loading: Sequence[str]) -> str:
    """README.md of a folder.

    facts: name, number, uid, family, sha256, config, metrics, licence, data ({name, kind, sha256} or empty), run
    ({uid, kind, ended_at, spec} or empty), evaluations ([{name, value, low, high, n, has_learnt_from_it}]); loading:
    paragraphs that say how the folder is opened.
    """
    parts = [
        _front_matter(facts),
        f"# {facts['name']} #{facts['number']}",
        f"A reward model of the family `{facts['family']}`: it gives a response to a conversation one number, and the"
        " higher number is the better response.",
        "## How to load it",
        *loading,
        "## Where it comes from",
        _lineage(facts),
        "## What it was measured to do",
        _evaluations(facts["evaluations"]),
        _json("Measured while it was made", facts.get("metrics")),
        "## Licence",
        _licence(facts),
        _json("Settings of the reward model", facts.get("config")),
        _json("Settings of the run", (facts.get("run") or {}).get("spec")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts: Mapping[str, Any]) -> str:
    lines = ["---", "pipeline_tag: text-classification", "tags:", "- reward-model"]
    if own := facts.get("licence"):
        known = HUB_LICENCES.get(own.strip().lower())
        name = f"license_name: {json.dumps(own, ensure_ascii=False)}"
        lines += [f"license: {known}"] if known else ["license: other", name]
    return "\n".join([*lines, "---"])


def _lineage(facts: Mapping[str, Any]) -> str:
    data, run = facts.get("data") or {}, facts.get("run") or {}
    rows = [("Checkpoint", f"`{facts['uid']}`"), ("sha256 of its files", f"`{facts['sha256'] or 'a rule, no files'}`")]
    if data:
        rows += [("Data", f"{data['name']} ({data['kind']})"), ("sha256 of the data", f"`{data['sha256']}`")]
    if run:
        rows.append(("Run", f"{run['kind']} `{run['uid']}`, ended {run['ended_at'] or 'not yet'}"))
    if origin := (facts.get("metrics") or {}).get("imported_from"):
        at = origin.get("commit") or origin.get("revision")
        rows.append(("Imported from", f"{origin['model']} ({origin['class']}{f', commit {at}' if at else ''})"))
    backbone = (facts.get("config") or {}).get("backbone")
    return _table(("", ""), [*rows, *([("Backbone", f"`{backbone}`")] if backbone else [])])


def _evaluations(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "It has not been evaluated."
    rows = []
    for one in found:
        has_interval = one.get("low") is not None and one.get("high") is not None
        interval = f"[{one['low']:.3f}, {one['high']:.3f}]" if has_interval else "none"
        mark = f" ({LEARNT})" if one.get("has_learnt_from_it") else ""
        rows.append((f"{one['name']}{mark}", f"{one['value']:.3f}", interval, str(one["n"])))
    table = _table(("Evaluated on", "Accuracy", "95% interval", "Pairs"), rows)
    return f"{table}\n\n{LEARNT_MEANS}" if any(one.get("has_learnt_from_it") for one in found) else table


def _licence(facts: Mapping[str, Any]) -> str:
    own = facts.get("licence")
    if origin := (facts.get("metrics") or {}).get("imported_from"):
        found = origin.get("licence")
        named = f"names the licence {found}" if found else "names no licence"
        return f"It was imported from {origin['model']}, whose card {named}; look it up before you pass the model on."
    said = f"The data it was trained on is under: {own}." if own else "The licence of its training data is not known."
    return f"{said} The licence of its backbone applies too; look it up before you pass the model on."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)])


def _json(title: str, value: Any) -> str:
    if not value:
        return ""
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str)
    return f"<details><summary>{title}</summary>\n\n```json\n{text}\n```\n\n</details>"
