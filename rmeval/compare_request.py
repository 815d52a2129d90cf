"""What a comparison is asked for by its query: ?a=&b=&dataset=&cell=&strength=&key=&value=, each one authorised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.urls import reverse

from annotator.access import READERS, AnyUser
from annotator.errors import InvalidInput, NotFound
from annotator.models import Project, Role
from rmeval.access import NOT_HERE, access_scorer, access_source
from rmeval.keyset import as_pk
from rmeval.models import Checkpoint
from rmeval.selectors.compare import CELLS, PairFilter
from rmeval.sources import PairSource


@dataclass(frozen=True)
class CompareRequest:
    a: Checkpoint | None
    b: Checkpoint | None
    source: PairSource | None
    chosen: PairFilter
    after: int = 0
    before: int = 0

    @property
    def project(self) -> Project | None:
        if self.source is not None:
            return self.source.project
        found = self.a or self.b
        return found.reward_model.project if found else None

    @property
    def is_complete(self) -> bool:
        return None not in (self.a, self.b, self.source)

    def parts(self) -> tuple[PairSource, Checkpoint, Checkpoint]:
        if self.source is None or self.a is None or self.b is None:
            raise InvalidInput("Name two models (a, b) and a dataset.", code="incomplete")
        return self.source, self.a, self.b

    def url(self) -> str:
        """Back to the page that asked."""
        named = {"a": self.a, "b": self.b, "dataset": self.source}
        query: dict[str, Any] = {name: found.uid for name, found in named.items() if found is not None}
        filters = {"cell": self.chosen.cell, "strength": self.chosen.strength, "key": self.chosen.key}
        query |= {name: value for name, value in {**filters, "value": self.chosen.value}.items() if value}
        return f"{reverse('rmeval:compare')}?{urlencode(query)}"


def compare_request(user: AnyUser, query: Mapping[str, Any], *, roles: frozenset[Role] = READERS) -> CompareRequest:
    """Read and authorise. All three must be of one project: a stranger's uid is as good as not there."""
    a, b, dataset = (uid_in(query, name) for name in ("a", "b", "dataset"))
    found = CompareRequest(
        a=access_scorer(user, a, roles) if a else None,
        b=access_scorer(user, b, roles) if b else None,
        source=access_source(user, dataset, roles) if dataset else None,
        chosen=filter_in(query),
        after=as_pk(query.get("after")),
        before=as_pk(query.get("before")),
    )
    projects = {c.reward_model.project_id for c in (found.a, found.b) if c is not None}
    projects |= {found.source.project.pk} if found.source else set()
    if len(projects) > 1:
        raise NotFound("The models and the dataset are not of one project.", code="other_project")
    return found


def filter_in(query: Mapping[str, Any]) -> PairFilter:
    cell = query.get("cell") or "disagree"
    strength = as_pk(query.get("strength"))
    return PairFilter(
        cell=cell if cell in CELLS else "disagree",
        strength=strength if strength in (1, 2, 3) else None,
        key=str(query.get("key") or "").replace("\0", ""),
        value=str(query.get("value") or "").replace("\0", ""),
    )


def uid_in(query: Mapping[str, Any], name: str) -> UUID | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return UUID(str(text))
    except ValueError as error:
        raise NotFound(NOT_HERE) from error
