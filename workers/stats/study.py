"""What trainings under several seeds say together: means of arms, and paired differences from the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.stats.student import Mean, mean_interval, paired_difference


def study_summary(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Means by arm, paired differences from the first arm, and an answer in words.

    rows: {"arm", "seed", "value", ...}, one a training; names: the arms in their order, the first is the baseline.
    """
    by_arm = {name: {row["seed"]: float(row["value"]) for row in rows if row["arm"] == name} for name in names}
    means = {name: mean_interval(list(found.values())) for name, found in by_arm.items() if found}
    first = names[0]
    differences = {}
    for name in names[1:]:
        seeds = sorted(by_arm[first].keys() & by_arm[name].keys())
        if seeds:
            own, baseline = ([by_arm[arm][seed] for seed in seeds] for arm in (name, first))
            differences[name] = paired_difference(own, baseline)
    best = max(means, key=lambda name: means[name].value)
    n_highest = sum(mean.value == means[best].value for mean in means.values())
    return {
        "means": {name: mean.as_json() for name, mean in means.items()},
        "differences": {
            name: {**mean.as_json(), "answer": difference_in_words(mean)} for name, mean in differences.items()
        },
        "best": best,
        "answer": _answer(first, best, differences, n_highest=n_highest),
    }


def difference_in_words(difference: Mean) -> str:
    """Better, worse, or not shown: an interval that holds 0 is no difference shown, and one seed shows nothing."""
    if difference.n < 2:
        return "one seed shows no difference"
    if not difference.excludes_zero:
        return "no difference shown"
    return "better" if difference.value > 0 else "worse"


def _answer(first: str, best: str, differences: Mapping[str, Mean], *, n_highest: int) -> str:
    """n_highest: arms that share the highest mean, `best` the first of them."""
    more = f"{n_highest - 1} other{'s' if n_highest > 2 else ''}"
    highest = f"{best} has the highest mean" if n_highest == 1 else f"{best} and {more} share the highest mean"
    if best == first:
        shown = [name for name, mean in differences.items() if difference_in_words(mean) == "worse"]
        if differences and not shown:
            n = f"any of the {len(differences)} others" if len(differences) > 1 else "the other"
            if n_highest > 1:
                return f"{highest}, and no difference from {first} is shown."
            return f"{highest}, but is not shown to be better than {n}."
        return f"{first} is best; shown to be better than {len(shown)} of {len(differences)} others."
    found = differences[best]
    words = difference_in_words(found)
    if words == "better":
        return f"{best} beats {first} by {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] over {found.n} seeds."
    return f"{highest}, but no difference from {first} is shown over {found.n} seeds."
