"""Who sees runs, reward models and what they are compared on. Found and allowed, or 404 / 403."""

from uuid import UUID

from annotator.access import READERS, AnyUser, access_row, require_role
from annotator.errors import NotFound
from annotator.models import Dataset, Role, Snapshot
from rmeval.models import Artifact, Checkpoint, RewardModel, Run
from rmeval.sources import PairSource

NOT_HERE = "There is no such page, or you are not a member of its project."


def access_run(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Run:
    rows = Run.objects.select_related("project", "reward_model", "parent", "created_by")
    return access_row(user, rows, roles, uid=uid)


def access_study(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Run:
    """A run of kind train_study."""
    rows = Run.objects.filter(kind="train_study").select_related("project", "reward_model", "created_by")
    return access_row(user, rows, roles, uid=uid)


def access_reward_model(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> RewardModel:
    live = RewardModel.objects.filter(deleted_at=None).select_related("project", "created_by")
    return access_row(user, live, roles, uid=uid)


def access_checkpoint(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Checkpoint:
    live = Checkpoint.objects.filter(reward_model__deleted_at=None).select_related("reward_model__project", "run")
    return access_row(user, live, roles, uid=uid)


def access_artifact(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Artifact:
    found = Artifact.objects.select_related("run__project").filter(uid=uid).first()
    if found is None:
        raise NotFound(NOT_HERE)
    require_role(user, found.run.project, roles)
    return found


def access_scorer(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Checkpoint:
    """A checkpoint by its own uid, or the newest one of the reward model of that uid."""
    rows = Checkpoint.objects.filter(reward_model__deleted_at=None).select_related("reward_model__project", "run")
    found = rows.filter(uid=uid).first() or rows.filter(reward_model__uid=uid).order_by("-number").first()
    if found is None:
        model = RewardModel.objects.filter(uid=uid, deleted_at=None).select_related("project").first()
        if model is None:
            raise NotFound(NOT_HERE)
        require_role(user, model.project, roles)
        raise NotFound(f"{model.name} has no checkpoint yet: train it first.", code="no_checkpoint")
    require_role(user, found.reward_model.project, roles)
    return found


def access_source(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> PairSource:
    """A dataset or a snapshot: whatever pairs with known preferences are read from."""
    dataset = Dataset.objects.filter(uid=uid, deleted_at=None).select_related("project").first()
    snapshots = Snapshot.objects.select_related("queue__project", "queue__dataset")
    snapshot = None if dataset else snapshots.filter(uid=uid, queue__deleted_at=None).first()
    if dataset is None and snapshot is None:
        raise NotFound(NOT_HERE)
    source = PairSource(dataset=dataset, snapshot=snapshot)
    require_role(user, source.project, roles)
    return source
