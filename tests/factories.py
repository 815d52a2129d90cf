"""Rows with plain defaults: a test names only what it is about."""

import hashlib
import json
import uuid
from datetime import timedelta
from typing import Any

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from annotator import models
from annotator.authentication import token_digest
from annotator.task_types.pairwise import PairwiseQuestion
from rmeval.models import Artifact, Checkpoint, RewardModel, Run

PASSWORD = "a plain test password"
QUESTIONS = [PairwiseQuestion(allow_both_bad=True).model_dump()]


def digest(value: Any) -> bytes:
    return hashlib.blake2b(json.dumps(value, ensure_ascii=False).encode(), digest_size=16).digest()


def user_message(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant_message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


class UserFactory(DjangoModelFactory[models.User]):
    class Meta:
        model = models.User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"user{n}")

    @factory.post_generation
    def password(self, create: bool, extracted: str | None, **kwargs: Any) -> None:
        """Hashing is slow, so only a test that logs in by form pays for it: UserFactory(password=PASSWORD)."""
        if extracted:
            self.set_password(extracted)
        else:
            self.set_unusable_password()
        if create:
            self.save(update_fields=["password"])


class ProjectFactory(DjangoModelFactory[models.Project]):
    class Meta:
        model = models.Project

    name = factory.Sequence(lambda n: f"Project {n}")


class MembershipFactory(DjangoModelFactory[models.Membership]):
    class Meta:
        model = models.Membership

    project = factory.SubFactory(ProjectFactory)
    user = factory.SubFactory(UserFactory)
    role = models.Role.LEAD


class InvitationFactory(DjangoModelFactory[models.Invitation]):
    """Pass `secret=` to know the link."""

    class Meta:
        model = models.Invitation
        skip_postgeneration_save = True

    class Params:
        secret = factory.LazyFunction(lambda: uuid.uuid4().hex)

    project = factory.SubFactory(ProjectFactory)
    role = models.Role.ANNOTATOR
    digest = factory.LazyAttribute(lambda o: token_digest(o.secret))
    invited_by = factory.SubFactory(UserFactory)
    expires_at = factory.LazyFunction(lambda: timezone.now() + timedelta(days=7))

    @factory.post_generation
    def led(self, create: bool, extracted: bool | None, **kwargs: Any) -> None:
        """Whoever invites leads the project; `led=False` is an invitation of somebody who does not any more."""
        if create and extracted is not False:
            project, user = self.project, self.invited_by
            models.Membership.objects.get_or_create(project=project, user=user, defaults={"role": models.Role.LEAD})


class ApiTokenFactory(DjangoModelFactory[models.ApiToken]):
    """Pass `secret=` to know the token itself."""

    class Meta:
        model = models.ApiToken

    class Params:
        secret = factory.LazyFunction(lambda: uuid.uuid4().hex)

    user = factory.SubFactory(UserFactory)
    name = "test"
    digest = factory.LazyAttribute(lambda o: token_digest(o.secret))
    prefix = factory.LazyAttribute(lambda o: o.secret[:8])


class RaterFactory(DjangoModelFactory[models.Rater]):
    class Meta:
        model = models.Rater
        django_get_or_create = ("user",)

    user = factory.SubFactory(UserFactory)
    name = factory.LazyAttribute(lambda o: o.user.username)


class DatasetFactory(DjangoModelFactory[models.Dataset]):
    class Meta:
        model = models.Dataset

    project = factory.SubFactory(ProjectFactory)
    name = factory.Sequence(lambda n: f"Dataset {n}")
    state = models.Dataset.State.READY
    format = "pairs"


class ExampleFactory(DjangoModelFactory[models.Example]):
    class Meta:
        model = models.Example

    uid = factory.LazyFunction(uuid.uuid4)
    dataset = factory.SubFactory(DatasetFactory)
    position = factory.Sequence(lambda n: n + 1)
    prompt = factory.Sequence(lambda n: user_message(f"Question {n}: what is {n} + 1?"))
    content_hash = factory.LazyAttribute(lambda o: digest([o.prompt, o.position]))
    prompt_hash = factory.LazyAttribute(lambda o: digest(o.prompt))


class ResponseFactory(DjangoModelFactory[models.Response]):
    class Meta:
        model = models.Response

    uid = factory.LazyFunction(uuid.uuid4)
    example = factory.SubFactory(ExampleFactory)
    number = factory.LazyAttribute(lambda o: models.Response.objects.filter(example=o.example).count())
    messages = factory.LazyAttributeSequence(lambda o, n: assistant_message(f"Response {n}"))


class PreferenceFactory(DjangoModelFactory[models.Preference]):
    """A known preference of an example for its response A."""

    class Meta:
        model = models.Preference

    example = factory.SubFactory(ExampleFactory)
    dataset = factory.SelfAttribute("example.dataset")
    response_a = factory.SubFactory(ResponseFactory, example=factory.SelfAttribute("..example"))
    response_b = factory.SubFactory(ResponseFactory, example=factory.SelfAttribute("..example"))
    verdict = models.Verdict.A


class QueueFactory(DjangoModelFactory[models.Queue]):
    class Meta:
        model = models.Queue
        skip_postgeneration_save = True

    dataset = factory.SubFactory(DatasetFactory)
    project = factory.SelfAttribute("dataset.project")
    name = factory.Sequence(lambda n: f"Queue {n}")
    form = factory.RelatedFactory("tests.factories.FormVersionFactory", factory_related_name="queue")
    guidelines = factory.RelatedFactory("tests.factories.GuidelinesVersionFactory", factory_related_name="queue")


class FormVersionFactory(DjangoModelFactory[models.FormVersion]):
    class Meta:
        model = models.FormVersion

    queue = factory.SubFactory(QueueFactory, form=None)
    number = 1
    questions = factory.LazyFunction(lambda: [dict(question) for question in QUESTIONS])


class GuidelinesVersionFactory(DjangoModelFactory[models.GuidelinesVersion]):
    class Meta:
        model = models.GuidelinesVersion

    queue = factory.SubFactory(QueueFactory, guidelines=None)
    number = 1
    markdown = "Prefer the response that is **right**."


class ItemFactory(DjangoModelFactory[models.Item]):
    class Meta:
        model = models.Item

    queue = factory.SubFactory(QueueFactory)
    example = factory.SubFactory(ExampleFactory, dataset=factory.SelfAttribute("..queue.dataset"))
    response_a = factory.SubFactory(ResponseFactory, example=factory.SelfAttribute("..example"))
    response_b = factory.SubFactory(ResponseFactory, example=factory.SelfAttribute("..example"))


class SlotFactory(DjangoModelFactory[models.Slot]):
    """An open slot of an item."""

    class Meta:
        model = models.Slot

    item = factory.SubFactory(ItemFactory)
    queue = factory.SelfAttribute("item.queue")
    slot_no = factory.LazyAttribute(lambda o: models.Slot.objects.filter(item=o.item).count())


class AssignmentFactory(DjangoModelFactory[models.Assignment]):
    class Meta:
        model = models.Assignment

    item = factory.SubFactory(ItemFactory)
    queue = factory.SelfAttribute("item.queue")
    rater = factory.SubFactory(RaterFactory)
    lease_token = factory.LazyFunction(uuid.uuid4)
    a_is_left = True
    seed = 1
    form_version = factory.LazyAttribute(lambda o: o.queue.form_versions.latest("number"))
    guidelines_version = factory.LazyAttribute(lambda o: o.queue.guidelines_versions.latest("number"))


class JudgementFactory(DjangoModelFactory[models.Judgement]):
    """A submitted answer with its assignment: JudgementFactory(item=item, rater=rater, verdict="b")."""

    class Meta:
        model = models.Judgement

    item = factory.SubFactory(ItemFactory)
    queue = factory.SelfAttribute("item.queue")
    rater = factory.SubFactory(RaterFactory)
    assignment = factory.SubFactory(
        AssignmentFactory,
        item=factory.SelfAttribute("..item"),
        rater=factory.SelfAttribute("..rater"),
        state=models.Assignment.State.SUBMITTED,
    )
    verdict = models.Verdict.A
    answers = factory.LazyAttribute(lambda o: {"preference": {"verdict": o.verdict}})
    active_s = 12.5
    idempotency_key = factory.LazyFunction(lambda: uuid.uuid4().hex)
    form_version = factory.SelfAttribute("assignment.form_version")
    guidelines_version = factory.SelfAttribute("assignment.guidelines_version")


class SnapshotFactory(DjangoModelFactory[models.Snapshot]):
    class Meta:
        model = models.Snapshot

    queue = factory.SubFactory(QueueFactory)
    number = factory.LazyAttribute(lambda o: models.Snapshot.objects.filter(queue=o.queue).count() + 1)
    state = models.Snapshot.State.READY
    sha256 = "0" * 64


class SnapshotRowFactory(DjangoModelFactory[models.SnapshotRow]):
    class Meta:
        model = models.SnapshotRow

    snapshot = factory.SubFactory(SnapshotFactory)
    position = factory.LazyAttribute(lambda o: models.SnapshotRow.objects.filter(snapshot=o.snapshot).count())
    item = factory.SubFactory(ItemFactory, queue=factory.SelfAttribute("..snapshot.queue"))
    example = factory.SelfAttribute("item.example")
    response_a = factory.SelfAttribute("item.response_a")
    response_b = factory.SelfAttribute("item.response_b")
    verdict = models.Verdict.A


class FlagFactory(DjangoModelFactory[models.Flag]):
    class Meta:
        model = models.Flag

    item = factory.SubFactory(ItemFactory)
    rater = factory.SubFactory(RaterFactory)
    detail = "The prompt is cut off."


class RewardModelFactory(DjangoModelFactory[RewardModel]):
    """The length baseline, which needs no weights."""

    class Meta:
        model = RewardModel

    project = factory.SubFactory(ProjectFactory)
    name = factory.Sequence(lambda n: f"Reward model {n}")
    family = "length"


class CheckpointFactory(DjangoModelFactory[Checkpoint]):
    class Meta:
        model = Checkpoint

    reward_model = factory.SubFactory(RewardModelFactory)
    number = factory.LazyAttribute(lambda o: Checkpoint.objects.filter(reward_model=o.reward_model).count() + 1)


class RunFactory(DjangoModelFactory[Run]):
    """A run that has failed, so that nothing waits for a worker."""

    class Meta:
        model = Run

    project = factory.SubFactory(ProjectFactory)
    kind = "evaluate"
    spec = factory.LazyFunction(dict)
    state = Run.State.FAILED


class ArtifactFactory(DjangoModelFactory[Artifact]):
    """A table whose file is not there."""

    class Meta:
        model = Artifact

    run = factory.SubFactory(RunFactory)
    kind = "table"
    name = "strengths.csv"
    path = "tables/no-such-folder"
    sha256 = "0" * 64


def member(project: models.Project, role: str = models.Role.LEAD, **user: Any) -> models.User:
    """A new user with a role in the project."""
    return MembershipFactory(project=project, role=role, user=UserFactory(**user)).user
