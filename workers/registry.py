"""Adding one thing is adding one file: a registry imports every module of its package on first use."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from threading import RLock
from typing import Any, Generic, TypeVar

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


class UnknownName(LookupError):
    """No entry of that name; the message lists those that exist."""

    def __init__(self, package: str, name: str, known: list[str]) -> None:
        super().__init__(f"{package.rpartition('.')[2]} has no {name!r}; known: {', '.join(known) or 'none'}")
        self.name = name
        self.known = known


class Registry(Generic[T]):
    """Classes of one package by name.

    Names are lower snake case and stored in the database, so they never change. Modules of the package must be cheap
    to import: torch and transformers come in inside the functions that use them.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self._entries: dict[str, type[T]] = {}
        self._is_loaded = False
        self._lock = RLock()

    def add(self, name: str) -> Callable[[C], C]:
        """Class decorator: register the class under `name` and note the name on it as `.name`."""
        if not (name.isidentifier() and name == name.lower()):
            raise ValueError(f"{name!r} is not a lower snake case name")

        def register(entry: C) -> C:
            existing = self._entries.get(name)
            if existing is not None and (existing.__module__, existing.__qualname__) != (
                entry.__module__,
                entry.__qualname__,
            ):
                raise ValueError(f"{self.package} already has {name!r}: {existing.__module__}.{existing.__qualname__}")
            entry.name = name
            self._entries[name] = entry
            return entry

        return register

    def get(self, name: str) -> type[T]:
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self.package, name, self.names()) from None

    def names(self) -> list[str]:
        self._load()
        return sorted(self._entries)

    def items(self) -> list[tuple[str, type[T]]]:
        return [(name, self._entries[name]) for name in self.names()]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _load(self) -> None:
        if self._is_loaded:
            return
        with self._lock:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._is_loaded = True
