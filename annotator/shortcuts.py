"""The keys of the annotate page: one registry that binds them, prints the cheat sheet and checks remapping."""

from dataclasses import asdict, dataclass
from typing import Any

from annotator.validation import invalid

#: Keys that browsers or assistive technology own, and digits, which are the scale.
RESERVED = frozenset({"Tab", "Shift", "Control", "Alt", "Meta", "Enter", " ", "ArrowUp", "ArrowDown", *"1234567"})


@dataclass(frozen=True, slots=True)
class Shortcut:
    """One action. `key` is what the key types; the physical key of `code` works where a layout cannot type it."""

    action: str
    key: str
    code: str
    label: str
    group: str
    fixed: bool = False


SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("scale", "1…7", "", "Pick a point of the scale, left to right", "Answer", fixed=True),
    Shortcut("left", "a", "KeyA", "Left is better, then 1 slightly, 2 clearly, 3 much", "Answer"),
    Shortcut("right", "d", "KeyD", "Right is better, then 1 slightly, 2 clearly, 3 much", "Answer"),
    Shortcut("tie", "s", "KeyS", "Equally good", "Answer"),
    Shortcut("both_bad", "b", "KeyB", "Both bad", "Answer"),
    Shortcut("cannot_judge", "n", "KeyN", "Cannot judge; opens the reason", "Answer"),
    Shortcut("justify", "j", "KeyJ", "Write why; Esc returns", "Answer"),
    Shortcut("submit", "Ctrl+Enter", "", "Submit and go on; works while typing", "Answer", fixed=True),
    Shortcut("undo", "z", "KeyZ", "Undo; after a submit, reopen the last answer", "Answer"),
    Shortcut("redo", "Shift+Z", "KeyZ", "Redo", "Answer"),
    Shortcut("skip", "k", "KeyK", "Skip, with a reason", "Answer"),
    Shortcut("flag", "f", "KeyF", "Flag a problem for the lead", "Answer"),
    Shortcut("focus_left", "q", "KeyQ", "Left response in full width; again to return", "Read"),
    Shortcut("focus_right", "e", "KeyE", "Right response in full width; again to return", "Read"),
    Shortcut("previous_turn", "[", "BracketLeft", "Previous turn of the conversation", "Read"),
    Shortcut("next_turn", "]", "BracketRight", "Next turn of the conversation", "Read"),
    Shortcut("raw", "m", "KeyM", "Formatted or raw text", "Read"),
    Shortcut("diff", "w", "KeyW", "Mark the words that differ", "Read"),
    Shortcut("sync", "\\", "Backslash", "Scroll both responses together", "Read"),
    Shortcut("guidelines", "g", "KeyG", "Guidelines", "Read"),
    Shortcut("help", "?", "Slash", "This list", "Read"),
)


def shortcuts_of(preferences: dict[str, Any]) -> list[dict[str, Any]]:
    """Every shortcut with the person's own key where they chose one; `default` is the key it came with."""
    chosen = preferences.get("keys") or {}
    rows = []
    for shortcut in SHORTCUTS:
        mine = None if shortcut.fixed else chosen.get(shortcut.action)
        row = {**asdict(shortcut), "default": shortcut.key}
        rows.append({**row, "key": mine, "code": ""} if mine else row)
    return rows


def keys_check(keys: object) -> dict[str, str]:
    """Remapped keys by action. Raises InvalidInput for an unknown action, a reserved key or two actions on one key."""
    if not isinstance(keys, dict):
        raise invalid("/keys", "type", "Keys are an object: action to key.")
    known = {shortcut.action: shortcut for shortcut in SHORTCUTS if not shortcut.fixed}
    for action, key in keys.items():
        if action not in known:
            raise invalid(f"/keys/{action}", "unknown_field", "There is no such action, or its key is fixed.")
        if not isinstance(key, str) or not 1 <= len(key) <= 12 or not key.isprintable() or key in RESERVED:
            raise invalid(f"/keys/{action}", "invalid_key", "This key cannot be used; choose a letter or a sign.")
    effective = {action: keys.get(action, shortcut.key) for action, shortcut in known.items()}
    owners: dict[str, str] = {}
    for action, key in effective.items():
        if key in owners:
            raise invalid(f"/keys/{action}", "duplicate", f"{key} already means: {known[owners[key]].label}")
        owners[key] = action
    return {action: key for action, key in keys.items() if key != known[action].key}
