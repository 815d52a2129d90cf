"""Results as rows: figures with as many digits as tell something."""

from annotator.templatetags.steelyard import seconds
from rmeval.run_results import result_groups


def test_numbers_in_lists_are_rounded_and_durations_are_not() -> None:
    given = {
        "training_s": 0.324,
        "report": {"mean_router": [0.19891125603699256, 0.25], "names": ["a", "b"], "n": 27},
        "validation_best": {"loss": 0.6827088815, "accuracy": {"n": 27, "low": 0.37, "high": 0.72, "value": 0.555}},
    }
    rows = {row.name: (row.kind, row.value) for group in result_groups(given) for row in group.rows}
    assert rows["report.mean_router"] == ("text", ["0.1989", "0.25"])
    assert rows["report.names"] == ("text", ["a", "b"])
    assert rows["validation_best.loss"] == ("number", "0.6827")
    assert rows["validation_best.accuracy"][1]["value"] == 0.555
    assert rows["training_s"] == ("seconds", 0.324)


def test_many_plain_figures_are_rows_and_nested_ones_are_not() -> None:
    """Of a model that rates five attributes a validation tells some thirty numbers."""
    figures = {f"mse_{n}": float(n) for n in range(30)}
    (group,) = result_groups({"validation": figures})
    assert len(group.rows) == 30
    (group,) = result_groups({"validation": {"mse_wit": 0.5, "n_wit": 28.0, "n_steps": 4}})
    assert {row.label for row in group.rows} == {"Validation: mse wit", "Validation: n wit", "Validation: steps"}
    (group,) = result_groups({"validation": {**figures, "by_source": {"a": 1}}})
    assert [row.kind for row in group.rows] == ["json"]


def test_a_part_of_a_second_is_not_nothing() -> None:
    assert [seconds(value) for value in (0.0, 0.324, 0.996, 7.7, 200)] == ["0 s", "0.32 s", "1 s", "8 s", "3 min 20 s"]
