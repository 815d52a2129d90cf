"""What tests of queues share: a dataset with responses, and answers."""

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from annotator.models import Assignment, Dataset, Example, Judgement, Queue, Rater, Response
from annotator.services.assignments import assignment_claim
from annotator.services.judgements import judgement_submit
from annotator.services.queues import queue_create
from tests.factories import DatasetFactory, RaterFactory, assistant_message, digest, user_message

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FORM = [
    {"type": "pairwise", "name": "preference", "points": 7, "allow_both_bad": True, "reasons": ["Correct", "Clear"]}
]
MODELS = ("secret-model-7b", "hidden-model-70b", "other-model-1b", "fourth-model-3b")


def dataset_with(n_examples: int, n_responses: int = 2, **values: Any) -> Dataset:
    """A ready dataset; responses name their models, which no rater may see."""
    dataset: Dataset = DatasetFactory(n_examples=n_examples, n_responses=n_examples * n_responses, **values)
    examples = Example.objects.bulk_create(
        Example(
            uid=uuid.uuid4(),
            dataset=dataset,
            position=n + 1,
            prompt=user_message(f"Question {n}"),
            meta={"category": "hidden-category"},
            content_hash=digest([dataset.pk, n]),
            prompt_hash=digest(n),
        )
        for n in range(n_examples)
    )
    Response.objects.bulk_create(
        Response(
            uid=uuid.uuid4(),
            example=example,
            number=number,
            messages=assistant_message(f"Response {number} to question {example.position}"),
            source_model=MODELS[number % len(MODELS)],
        )
        for example in examples
        for number in range(n_responses)
    )
    return dataset


def queue_of(n_examples: int = 5, *, dataset: Dataset | None = None, n_responses: int = 2, **values: Any) -> Queue:
    data = dataset or dataset_with(n_examples, n_responses)
    settings: dict[str, Any] = {
        "name": "Test queue",
        "form": FORM,
        "created_by": None,
        "now": NOW,
        "rng": random.Random(1),
        "lease": timedelta(minutes=10),
        "order_policy": "breadth",
    }
    return queue_create(dataset=data, **{"project": data.project, **settings, **values})


def claim(queue: Queue, rater: Rater, *, now: datetime = NOW, seed: int = 5) -> Assignment | None:
    return assignment_claim(queue=queue, rater=rater, now=now, rng=random.Random(seed))


def held(queue: Queue, rater: Rater, **values: Any) -> Assignment:
    found = claim(queue, rater, **values)
    assert found is not None
    return found


def answer(choice: str = "left", strength: int | None = 2, **values: Any) -> dict[str, Any]:
    return {"preference": {"choice": choice, "strength": strength, **values}}


def submit(
    assignment: Assignment, answers: Any = None, *, key: str = "", now: datetime = NOW, **values: Any
) -> Judgement:
    return judgement_submit(
        assignment=assignment,
        answers=answer() if answers is None else answers,
        active_seconds=values.pop("active_seconds", 3.0),
        idempotency_key=key or uuid.uuid4().hex,
        now=now,
        **values,
    )


def raters(n: int) -> list[Rater]:
    return [RaterFactory() for _ in range(n)]
