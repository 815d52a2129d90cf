"""The tables of annotation. Import models from here."""

from annotator.models.dataset import (
    Dataset,
    Example,
    ExampleSearch,
    ImportProblem,
    Preference,
    Response,
    Verdict,
)
from annotator.models.judgement import AuditEvent, Judgement, Snapshot, SnapshotRow
from annotator.models.project import Invitation, Membership, Project, Role
from annotator.models.queue import (
    Assignment,
    Exclusion,
    Flag,
    FormVersion,
    GuidelinesVersion,
    Item,
    Queue,
    QueueRater,
    Slot,
)
from annotator.models.user import ApiToken, LoginFailure, Rater, User

__all__ = [
    "ApiToken",
    "Assignment",
    "AuditEvent",
    "Dataset",
    "Example",
    "ExampleSearch",
    "Exclusion",
    "Flag",
    "FormVersion",
    "GuidelinesVersion",
    "ImportProblem",
    "Invitation",
    "Item",
    "Judgement",
    "LoginFailure",
    "Membership",
    "Preference",
    "Project",
    "Queue",
    "QueueRater",
    "Rater",
    "Response",
    "Role",
    "Slot",
    "Snapshot",
    "SnapshotRow",
    "User",
    "Verdict",
]
