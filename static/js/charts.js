// A live region is swapped while it is read: tables that were open stay open, the focus stays, and logs stay
// where they were scrolled to.

export function openIds(root) {
  return [...root.querySelectorAll("details[id][open]")].map((details) => details.id);
}

export function reopen(root, ids) {
  for (const id of ids) {
    const details = root.querySelector(`details[id="${CSS.escape(id)}"]`);
    if (details) details.open = true;
  }
}

export function scrolls(root) {
  return [...root.querySelectorAll(".log")].map((log) => log.scrollTop);
}

const kept = new WeakMap();

if (typeof document !== "undefined") {
  document.addEventListener("htmx:beforeSwap", (event) => {
    const held = event.target.contains(document.activeElement) ? document.activeElement.id : "";
    kept.set(event.target, { open: openIds(event.target), tops: scrolls(event.target), held });
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const before = kept.get(event.target);
    if (!before) return;
    reopen(event.target, before.open);
    // htmx gives the focus back before the tables are open again, and what is closed takes none.
    if (before.held && document.activeElement === document.body) document.getElementById(before.held)?.focus({ preventScroll: true });
    [...event.target.querySelectorAll(".log")].forEach((log, index) => {
      log.scrollTop = before.tops[index] ?? 0;
    });
  });
}
