"""Every address of the site with who may call it: the table that test_permissions.py walks.

A new route needs a line here: which object its uid names, and for every method it answers, which roles may call.
"""

from dataclasses import dataclass, field
from typing import Any

from annotator.access import LABELLERS, READERS, RESEARCHERS
from annotator.models import Role

MEMBERS = frozenset(Role)
LEAD = frozenset({Role.LEAD})
OWNER = frozenset({Role.ANNOTATOR})  # the object belongs to the annotator of the world below; to others it is not there
SIGNED_IN = "signed in"  # no object: whoever is logged in, members or not
PUBLIC = "public"  # also without a login
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Route:
    """What a route's arguments name, and who may call it by which method."""

    objects: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    allowed: dict[str, Any] = field(default_factory=dict)
    is_private: bool = False


def on(kind: str, *, private: bool = False, **allowed: Any) -> Route:
    """A route whose `uid` is an object of that kind."""
    return Route(objects={"uid": kind}, allowed=allowed, is_private=private)


def at(**allowed: Any) -> Route:
    """A route without an object."""
    return Route(allowed=allowed)


PAGES: dict[str, Route] = {
    "annotator:login": at(get=PUBLIC, post=PUBLIC),
    "annotator:logout": at(post=PUBLIC),
    "annotator:invitation-accept": Route(
        objects={"secret": "invitation_secret"}, allowed={"get": PUBLIC, "post": PUBLIC}
    ),
    "annotator:account": at(get=SIGNED_IN),
    "annotator:account-preferences": at(post=SIGNED_IN),
    "annotator:password-change": at(get=SIGNED_IN, post=SIGNED_IN),
    "annotator:token-create": at(post=SIGNED_IN),
    "annotator:token-revoke": on("token", private=True, post=OWNER),
    "annotator:shortcut-save": at(post=SIGNED_IN),
    "annotator:home": at(get=SIGNED_IN),
    "annotator:api": at(get=SIGNED_IN),
    "annotator:project-create": at(get=SIGNED_IN, post=SIGNED_IN),
    "annotator:project-detail": on("project", get=MEMBERS),
    "annotator:project-edit": on("project", get=LEAD, post=LEAD),
    "annotator:project-archive": on("project", post=LEAD),
    "annotator:member-list": on("project", get=LEAD),
    "annotator:member-role": Route({"uid": "project", "member_uid": "member"}, allowed={"post": LEAD}),
    "annotator:member-remove": Route({"uid": "project", "member_uid": "member"}, allowed={"post": LEAD}),
    "annotator:invitation-create": on("project", post=LEAD),
    "annotator:invitation-revoke": on("invitation", post=LEAD),
    "annotator:dataset-list": on("project", get=READERS),
    "annotator:dataset-import": on("project", get=RESEARCHERS, post=RESEARCHERS),
    "annotator:dataset-detail": on("dataset", get=READERS),
    "annotator:dataset-problems": on("dataset", get=READERS),
    "annotator:dataset-cancel": on("dataset", post=RESEARCHERS),
    "annotator:dataset-delete": on("dataset", post=RESEARCHERS),
    "annotator:example-detail": on("example", get=READERS),
    "annotator:queue-list": on("project", get=MEMBERS),
    "annotator:queue-create": on("project", get=LEAD, post=LEAD),
    "annotator:queue-detail": on("queue", get=READERS),
    "annotator:queue-items": on("queue", get=READERS),
    "annotator:queue-review": on("queue", get=READERS),
    "annotator:queue-versions": on("queue", get=LEAD),
    "annotator:queue-guidelines-save": on("queue", post=LEAD),
    "annotator:queue-form-save": on("queue", post=LEAD),
    "annotator:queue-state-save": on("queue", post=LEAD),
    "annotator:queue-overlap-save": on("queue", post=LEAD),
    "annotator:queue-annotate": on("queue", get=LABELLERS, post=LABELLERS),
    "annotator:flag-resolve": on("flag", post=LEAD),
    "annotator:snapshot-list": on("project", get=READERS),
    "annotator:queue-agreement": on("queue", get=READERS),
    "annotator:snapshot-create": on("queue", get=RESEARCHERS, post=RESEARCHERS),
    "annotator:snapshot-detail": on("snapshot", get=READERS),
    "annotator:snapshot-card": on("snapshot", get=READERS),
    "rmeval:run-list": on("project", get=READERS),
    "rmeval:run-detail": on("run", get=READERS),
    "rmeval:run-cancel": on("run", post=RESEARCHERS),
    "rmeval:run-retry": on("run", post=RESEARCHERS),
    "rmeval:audit-create": on("project", get=RESEARCHERS, post=RESEARCHERS),
    "rmeval:audit-edit": on("run", post=RESEARCHERS),
    "rmeval:audit-undo": on("run", post=RESEARCHERS),
    "rmeval:audit-queue": on("run", post=RESEARCHERS),
    "rmeval:audit-verdicts": on("run", post=RESEARCHERS),
    "rmeval:artifact-download": on("artifact", get=READERS),
    "rmeval:study-detail": on("study", get=READERS),
    "rmeval:study-create": on("reward_model", get=RESEARCHERS, post=RESEARCHERS),
    "rmeval:playground": on("project", get=READERS, post=RESEARCHERS),
    "rmeval:reward-model-list": on("project", get=READERS),
    "rmeval:reward-model-create": on("project", get=RESEARCHERS, post=RESEARCHERS),
    "rmeval:reward-model-import": on("project", get=RESEARCHERS, post=RESEARCHERS),
    "rmeval:reward-model-detail": on("reward_model", get=READERS),
    "rmeval:reward-model-train": on("reward_model", get=RESEARCHERS, post=RESEARCHERS),
    "rmeval:reward-model-evaluate": on("reward_model", get=RESEARCHERS, post=RESEARCHERS),
    "rmeval:checkpoint-export": on("checkpoint", get=READERS, post=RESEARCHERS),
    "rmeval:scores-given": on("checkpoint", get=READERS),
    "rmeval:scores-import": on("checkpoint", get=RESEARCHERS, post=RESEARCHERS),
    "rmeval:responses-to-score": Route({"uid": "checkpoint", "dataset_uid": "dataset"}, allowed={"get": READERS}),
    "rmeval:checkpoint-files": on("checkpoint", get=READERS),
    "rmeval:checkpoint-download": Route({"uid": "checkpoint", "name": "file_name"}, allowed={"get": READERS}),
    "rmeval:leaderboard-list": on("project", get=READERS),
    "rmeval:leaderboard": on("dataset", get=READERS),
    "rmeval:leaderboard-evaluate": on("dataset", post=RESEARCHERS),
    "rmeval:compare": Route(
        query={"a": "checkpoint", "b": "other_checkpoint", "dataset": "dataset"}, allowed={"get": READERS}
    ),
    "rmeval:compare-queue": Route(
        query={"a": "checkpoint", "b": "other_checkpoint", "dataset": "dataset"}, allowed={"post": RESEARCHERS}
    ),
    "schema": at(get=PUBLIC),
    "healthz": at(get=PUBLIC),
    "readyz": at(get=PUBLIC),
    "metrics": at(get=PUBLIC),
}
API: dict[str, Route] = {
    "annotator-api:me": at(get=SIGNED_IN),
    "annotator-api:token-list": at(get=SIGNED_IN, post=SIGNED_IN),
    "annotator-api:token-detail": on("token", private=True, delete=OWNER),
    "annotator-api:project-list": at(get=SIGNED_IN, post=SIGNED_IN),
    "annotator-api:project-detail": on("project", get=MEMBERS, patch=LEAD),
    "annotator-api:member-list": on("project", get=LEAD),
    "annotator-api:member-detail": Route(
        {"uid": "project", "member_uid": "member"}, allowed={"patch": LEAD, "delete": LEAD}
    ),
    "annotator-api:project-datasets": on("project", get=READERS, post=RESEARCHERS),
    "annotator-api:dataset": on("dataset", get=READERS, patch=RESEARCHERS, delete=RESEARCHERS),
    "annotator-api:dataset-problems": on("dataset", get=READERS),
    "annotator-api:dataset-examples": on("dataset", get=READERS),
    "annotator-api:example": on("example", get=READERS),
    "annotator-api:dataset-export": on("dataset", get=READERS),
    "annotator-api:project-queues": on("project", get=MEMBERS, post=LEAD),
    "annotator-api:queue": on("queue", get=MEMBERS, patch=LEAD),
    "annotator-api:queue-form": on("queue", post=LEAD),
    "annotator-api:queue-guidelines": on("queue", post=LEAD),
    "annotator-api:queue-claim": on("queue", post=LABELLERS),
    "annotator-api:assignment-draft": on("assignment", private=True, put=OWNER),
    "annotator-api:assignment-heartbeat": on("assignment", private=True, post=OWNER),
    "annotator-api:assignment-submit": on("assignment", private=True, post=OWNER),
    "annotator-api:assignment-skip": on("assignment", private=True, post=OWNER),
    "annotator-api:assignment-flag": on("assignment", private=True, post=OWNER),
    "annotator-api:assignment-reopen": on("assignment", private=True, post=OWNER),
    "annotator-api:snapshot-list": on("queue", get=READERS, post=RESEARCHERS),
    "annotator-api:queue-agreement": on("queue", get=READERS),
    "annotator-api:snapshot-detail": on("snapshot", get=READERS),
    "annotator-api:snapshot-export": on("snapshot", get=READERS),
    "annotator-api:snapshot-card": on("snapshot", get=READERS),
    "rmeval-api:project-runs": on("project", get=READERS, post=RESEARCHERS),
    "rmeval-api:run-detail": on("run", get=READERS),
    "rmeval-api:run-cancel": on("run", post=RESEARCHERS),
    "rmeval-api:run-retry": on("run", post=RESEARCHERS),
    "rmeval-api:run-events": on("run", get=READERS),
    "rmeval-api:run-edits": on("run", get=READERS, post=RESEARCHERS),
    "rmeval-api:run-edits-undo": on("run", post=RESEARCHERS),
    "rmeval-api:run-edits-queue": on("run", post=RESEARCHERS),
    "rmeval-api:run-edits-verdicts": on("run", post=RESEARCHERS),
    "rmeval-api:study-detail": on("study", get=READERS),
    "rmeval-api:project-reward-models": on("project", get=READERS, post=RESEARCHERS),
    "rmeval-api:checkpoint-export": on("checkpoint", get=READERS),
    "rmeval-api:reward-model-detail": on("reward_model", get=READERS),
    "rmeval-api:checkpoint-scores": on("checkpoint", get=READERS, post=RESEARCHERS),
    "rmeval-api:settings": at(get=SIGNED_IN),
    "rmeval-api:leaderboard": on("dataset", get=READERS),
    "rmeval-api:compare": Route(
        query={"a": "checkpoint", "b": "other_checkpoint", "dataset": "dataset"}, allowed={"get": READERS}
    ),
}
ROUTES = PAGES | API
