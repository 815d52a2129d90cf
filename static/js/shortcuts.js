// Keys: which action a key press means, the cheat sheet, and remapping. The rows come from the server's registry.

const LETTER_OR_SIGN = /^[\x21-\x7e]$/;

// The name of a key press: "a", "?", "Shift+Z", "Ctrl+Enter"; "" for what belongs to the browser.
export function keyName(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return "Ctrl+Enter";
  const isAltGraph = event.getModifierState ? event.getModifierState("AltGraph") : false;
  if ((event.ctrlKey || event.metaKey || event.altKey) && !isAltGraph) return "";
  if (event.key.length !== 1) return event.key;
  if (event.key.toLowerCase() === event.key.toUpperCase()) return event.key;
  return event.shiftKey ? `Shift+${event.key.toUpperCase()}` : event.key.toLowerCase();
}

// By what the key types; by where it lies when the layout types nothing we know (Cyrillic, Arabic, French digits).
export function findAction(event, rows) {
  const name = keyName(event);
  if (!name) return null;
  if (/^[1-9]$/.test(name)) return { action: "scale", digit: Number(name) };
  const typed = rows.find((row) => row.key === name);
  if (typed) return { action: typed.action };
  if (LETTER_OR_SIGN.test(event.key) && /[a-z]/i.test(event.key)) return null;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code || "");
  if (digit && !event.shiftKey) return { action: "scale", digit: Number(digit[1]) };
  const isLatin = LETTER_OR_SIGN.test(event.key);
  const placed = rows.find((row) => row.code && row.code === event.code && wantsShift(row) === event.shiftKey);
  return placed && !isLatin ? { action: placed.action } : null;
}

function wantsShift(row) {
  return row.key.startsWith("Shift+") || row.key === "?";
}

// A dialog that has just closed keeps the focus until the next frame: what is pressed then is meant for the page.
export function isTyping(target) {
  if (!target || !target.matches || target.closest("dialog:not([open])")) return false;
  return target.isContentEditable || target.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=button], [type=submit])");
}

export class Shortcuts {
  constructor({ rows, run, sheet, saveUrl, headers }) {
    Object.assign(this, { rows, run, sheet, saveUrl, headers, waiting: null });
    document.addEventListener("keydown", (event) => this.press(event), true);
    this.sheet.addEventListener("click", (event) => this.startChange(event.target.closest("button[data-change]")));
    document.getElementById("keys-reset")?.addEventListener("click", () => this.save({}));
    this.show();
  }

  press(event) {
    if (event.isComposing || event.defaultPrevented) return;
    if (this.waiting) return this.capture(event);
    const isSubmit = keyName(event) === "Ctrl+Enter";
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return this.run("leave", event);
    if (isTyping(event.target) && !isSubmit) return;
    const found = findAction(event, this.rows);
    if (!found || (event.repeat && found.action !== "scale")) return;
    event.preventDefault();
    this.run(found.action, event, found.digit);
  }

  startChange(button) {
    if (!button) return;
    this.waiting = button.dataset.change;
    this.say("Press the new key; Esc leaves it as it is.");
    this.show();
  }

  capture(event) {
    if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const action = this.waiting;
    const name = keyName(event);
    this.waiting = null;
    if (event.key === "Escape" || !name) {
      this.say("");
      this.show();
      return;
    }
    const mine = Object.fromEntries(this.rows.filter((r) => !r.fixed && r.key !== r.default).map((r) => [r.action, r.key]));
    this.save({ ...mine, [action]: name });
  }

  async save(keys) {
    const response = await fetch(this.saveUrl, { method: "POST", headers: this.headers(), body: JSON.stringify(keys) });
    const body = await response.json();
    if (response.ok) this.rows = body.shortcuts;
    this.say(response.ok ? "Saved." : body.detail, !response.ok);
    this.show();
  }

  say(text, isBad = false) {
    const state = document.getElementById("keys-state");
    state.textContent = text;
    state.className = isBad ? "badge bad" : "muted";
  }

  // The cheat sheet and every small key on the page, from the same rows that bind them.
  show() {
    const groups = [...new Set(this.rows.map((row) => row.group))];
    this.sheet.replaceChildren(...groups.map((group) => this.groupOf(group)));
    this.label(document);
  }

  label(root) {
    root.querySelectorAll("kbd[data-key]").forEach((kbd) => {
      kbd.textContent = this.rows.find((row) => row.action === kbd.dataset.key)?.key || "";
    });
  }

  groupOf(group) {
    const section = document.createElement("section");
    section.append(element("h3", group), ...this.rows.filter((row) => row.group === group).map((row) => this.rowOf(row)));
    return section;
  }

  rowOf(row) {
    const line = element("div", "", "key-row");
    const key = element("span", "");
    key.append(element("kbd", row.key));
    line.append(key, element("span", row.label));
    line.dataset.action = row.action;
    if (!row.fixed) {
      const change = element("button", this.waiting === row.action ? "Press…" : "Change", "btn quiet small");
      Object.assign(change, { type: "button" }).dataset.change = row.action;
      change.setAttribute("aria-label", `Change the key for: ${row.label}`);
      line.append(change);
    }
    line.classList.toggle("waiting", this.waiting === row.action);
    return line;
  }
}

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}
