// A strip of tokens is one stop of the tab key; arrows, Home and End walk along it.

const MOVES = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity };

export function target(key, at, length, isRtl = false) {
  const step = MOVES[key];
  if (step === undefined) return at;
  const signed = isRtl && key.startsWith("Arrow") && Math.abs(step) === 1 ? -step : step;
  return Math.max(0, Math.min(length - 1, at + signed));
}

if (typeof document !== "undefined") {
  document.addEventListener("keydown", (event) => {
    const token = event.target.closest("[data-tokens] > .tok");
    if (!token || !(event.key in MOVES)) return;
    const tokens = [...token.parentElement.children];
    const isRtl = getComputedStyle(token.parentElement).direction === "rtl";
    const next = tokens[target(event.key, tokens.indexOf(token), tokens.length, isRtl)];
    event.preventDefault();
    token.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
