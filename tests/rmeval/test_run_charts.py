"""The charts of a training beside loss and accuracy: weights of sources, attributes, groups of held-out pairs."""

from datetime import UTC, datetime

import pytest

from rmeval.charts import MOST_LINES, line_chart
from rmeval.group_charts import MOST_DRAWN, group_charts
from rmeval.rendering import draw
from rmeval.run_charts import correlation_chart, validation_loss_chart, weights_chart
from rmeval.selectors.runs import Curve

AT = datetime(2026, 1, 1, tzinfo=UTC)


def curve(name: str, *values: float) -> Curve:
    return Curve(name, list(range(1, len(values) + 1)), list(values), [AT] * len(values))


def curves(**named: tuple[float, ...]) -> dict[str, Curve]:
    return {name: curve(name, *values) for name, values in named.items()}


def test_weights_of_sources_are_drawn_with_their_table() -> None:
    found = weights_chart(curves(lambda_web=(0.75, 0.25), lambda_chat=(0.25, 0.75), full_conflict=(1.0, 0.0)))
    assert found is not None
    assert found.columns == ("step", "chat", "web")
    assert found.rows == [(1, 0.25, 0.75), (2, 0.75, 0.25)]
    assert 'aria-label="Weights of the sources by step, now chat 0.75, web 0.25"' in found.svg
    assert "conflict fully in 50.0% of the steps" in found.note
    assert weights_chart(curves(loss=(1.0,))) is None


def test_of_very_many_sources_the_largest_are_drawn() -> None:
    named = {f"lambda_s{i:02d}": (i / 1000, i / 1000) for i in range(MOST_LINES + 3)}
    found = weights_chart(curves(**named))
    assert found is not None
    assert f"Drawn are the {MOST_LINES} largest of {MOST_LINES + 3}" in found.note
    assert "s00 " not in found.svg
    assert len(found.rows[0]) == MOST_LINES + 4


def test_attributes_and_validation_loss() -> None:
    found = correlation_chart(curves(validation_pearson_helpfulness=(0.1, 0.4), validation_pearson=(0.1, 0.2)))
    assert found is not None
    assert found.columns == ("step", "helpfulness")
    assert validation_loss_chart(curves(validation_loss=(0.5,))) is None
    loss = validation_loss_chart(curves(validation_loss=(0.5, 0.3, 0.4)))
    assert loss is not None
    assert "lowest 0.300, now 0.400" in loss.svg


def test_one_value_is_not_drawn_at_another() -> None:
    one = line_chart([(1, 0.701)], y_title="loss")
    assert one["layer"][0]["encoding"]["y"]["scale"]["domain"] == pytest.approx([0.6309, 0.7711])
    assert "0.70" in draw(one, label="x", key="k")
    assert line_chart([(1, 0.0)], y_title="loss")["layer"][0]["encoding"]["y"]["scale"]["domain"] == [-0.01, 0.01]
    assert "domain" not in line_chart([(1, 0.7), (2, 0.6)], y_title="loss")["layer"][0]["encoding"]["y"]["scale"]


def told(n: int, value: float) -> dict[str, float]:
    return {"n": n, "value": value, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1), "ece": 0.05}


def test_groups_of_held_out_pairs_the_largest_first() -> None:
    best = {"by_source": {"web": told(3, 0.5), "chat": told(9, 0.75)}, "by_rater": {"only one": told(12, 0.6)}}
    (found,) = group_charts({"validation_best": best})
    assert (found.name, [row[0] for row in found.rows]) == ("by-source", ["chat", "web"])
    assert "chat 75.0%; web 50.0%" in found.svg
    many = {f"rater {i}": told(i + 1, 0.5) for i in range(MOST_DRAWN + 5)}
    (found,) = group_charts({"validation_best": {"by_rater": many}})
    assert len(found.rows) == MOST_DRAWN + 5
    assert f"the {MOST_DRAWN} largest of {MOST_DRAWN + 5}" in found.note
    assert group_charts({}) == []
