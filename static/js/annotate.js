// The annotate page: mounts a card, submits it, swaps in the next. Everything it needs to survive a reload is stored.

import { choose, pressDigit } from "./answer.js";
import { Bar } from "./bar.js";
import { Dialogs } from "./dialogs.js";
import { Drafts } from "./drafts.js";
import { flow } from "./flow.js";
import { Outbox } from "./outbox.js";
import { Panes } from "./panes.js";
import { Shortcuts } from "./shortcuts.js";
import { TabWatch } from "./tabs.js";
import { ActiveClock, LeaseKeeper } from "./timer.js";

const work = document.getElementById("work");
const byId = (id) => document.getElementById(id);
const headers = () => ({ "Content-Type": "application/json", "X-CSRFToken": JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"] });

async function api(method, assignment, action, body, keepalive = false) {
  const url = `${work.dataset.api}${assignment}/${action}/`;
  const response = await fetch(url, { method, keepalive, headers: headers(), body: JSON.stringify(body ?? {}) });
  return { status: response.status, body: await response.json().catch(() => null) };
}

class Page {
  constructor() {
    Object.assign(this, { api, cardUrl: work.dataset.cardUrl });
    this.modes = { raw: false, sync: false, diff: false };
    this.undo = null;
    const user = work.dataset.user;
    this.outbox = new Outbox({ storage: localStorage, user, post: (entry) => api("POST", entry.assignment, "submit", entry.body), onState: (state, entry, attempt) => this.sendState(state, entry, attempt) });
    this.drafts = new Drafts({ storage: localStorage, user, put: (assignment, body, keepalive) => api("PUT", assignment, "draft", body, keepalive), say: (text, isBad) => this.say(text, isBad), onConflict: (conflict) => this.conflict(conflict) });
    this.lease = new LeaseKeeper({ label: byId("lease-timer"), renew: () => api("POST", this.client.assignment, "heartbeat"), onLost: (isLost) => this.lost(isLost) });
    this.tabs = new TabWatch(`${work.dataset.queue}.${user}`, { onOther: (isThere) => { byId("tab-warning").hidden = !isThere; }, onMoved: (assignment) => { if (assignment === this.client?.assignment) this.next(); } });
    this.dialogs = new Dialogs({ skip: (values) => this.skip(values), flag: async (values) => { const sent = await api("POST", this.client.assignment, "flag", values); if (sent.status < 300) this.tell("Flag sent to the lead."); return sent; } });
    this.shortcuts = new Shortcuts({ rows: JSON.parse(work.dataset.shortcuts), run: (...found) => this.run(...found), sheet: byId("cheat-sheet"), saveUrl: work.dataset.keysUrl, headers });
    document.addEventListener("click", (event) => { const button = event.target.closest("[data-action]"); if (button?.tagName === "BUTTON") this.run(button.dataset.action, event); });
    ["pointerdown", "keydown", "wheel", "touchmove"].forEach((kind) => document.addEventListener(kind, () => this.clock?.input(Date.now()), { passive: true, capture: true }));
    document.addEventListener("visibilitychange", () => this.clock?.show(!document.hidden, Date.now()));
    window.addEventListener("pagehide", () => this.keepSeconds());
    // Kept in this browser alone so far: it would be sent when the page is opened again, by this person, here.
    window.addEventListener("beforeunload", (event) => { if (this.outbox.all().length) event.preventDefault(); });
    document.body.addEventListener(`live:queue.${work.dataset.queue}`, () => { if (byId("nothing")) this.refreshSoon(); });
  }

  // Take over the card that the server has rendered.
  mount() {
    const task = byId("task");
    this.undo = (task || byId("nothing"))?.dataset.undo || null;
    this.shortcuts.label(byId("card"));
    this.client = task ? JSON.parse(task.dataset.client) : null;
    if (!task) { this.lease.stop(); this.drafts.close(); this.clock = null; return; }
    const { assignment, draft, draft_version: version, question } = this.client;
    const waiting = this.outbox.find(assignment);
    const mine = this.drafts.open({ assignment, draft, version, question: question.name });
    const shown = waiting ? waiting.body.answers[question.name] : mine;
    this.panes = new Panes(task, this.modes, (text) => this.tell(text));
    this.bar = new Bar(byId("answer"), this.client, shown, { onChange: (answer) => this.drafts.change(answer), onSubmit: () => this.submit() });
    this.clock = new ActiveClock(Date.now(), Number(sessionStorage.getItem(`steelyard.active.${assignment}`)) || 0);
    this.lease.start(this.client.lease_until);
    byId("done-count").textContent = Number(task.dataset.done) ? `${task.dataset.done} done` : "";
    this.tabs.hello();
    if (waiting) this.send(waiting);
  }

  run(action, event, digit) {
    const side = { focus_left: "left", focus_right: "right" }[action];
    if (action === "help" || (action === "skip" && this.client && !this.client.is_reopened) || (action === "flag" && this.client)) return this.dialogs.open(action);
    if (action === "guidelines") return this.toggleGuidelines();
    if (action === "undo") return this.undoLast();
    if (!this.client) return undefined;
    if (action === "leave") return this.leave(event);
    if (action === "submit") return this.submit();
    if (action === "redo") return this.bar.step("redo");
    if (action === "justify") return this.bar.justify();
    if (side) return this.panes.focusSide(side);
    if (action === "previous_turn" || action === "next_turn") return this.panes.stepTurn(action === "next_turn" ? 1 : -1);
    if (["raw", "sync", "diff"].includes(action)) return this.panes.toggle(action);
    return this.answer(action, digit);
  }

  answer(action, digit) {
    const { question, scale } = this.client;
    if (this.isSending) return;
    const before = this.bar.answer;
    this.bar.set(action === "scale" ? pressDigit(question, scale, before, digit) : choose(question, before, action));
    if (action === "cannot_judge" && this.bar.answer.choice === action) this.bar.justify();
  }

  notice(text, kind, actions = []) {
    const box = byId("task-notice");
    if (!box) return;
    box.className = `callout slim ${kind}`;
    box.querySelector(".text").textContent = text;
    box.querySelector(".actions").replaceChildren(...actions.map(([label, act]) => { const button = document.createElement("button"); Object.assign(button, { type: "button", className: "btn small", textContent: label }); button.addEventListener("click", act); return button; }));
    box.hidden = false;
  }

  leave(event) {
    if (event.target.closest?.("textarea, input")) event.target.blur();
    byId("prompt-heading")?.focus();
  }

  toggleGuidelines() {
    const panel = byId("guidelines");
    panel.hidden = !panel.hidden;
    document.querySelector("[data-action=guidelines]").setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden) panel.focus();
  }

  refreshSoon() {
    clearTimeout(this.refreshTimer);
    this.refreshTimer = setTimeout(() => { if (byId("nothing")) this.next(); }, 600);
  }

  keepSeconds() {
    if (this.clock) sessionStorage.setItem(`steelyard.active.${this.client.assignment}`, this.clock.seconds(Date.now()));
  }

  say(text, isBad = false) {
    const state = byId("save-state");
    state.textContent = text;
    state.dataset.state = isBad ? "bad" : "";
  }

  announce(text) {
    byId("announce").textContent = text;
  }

  // For eyes and for screen readers.
  tell(text) {
    this.announce(text);
    if (this.client) this.bar.say(text);
  }
}

Object.assign(Page.prototype, flow);

if (work) {
  const page = new Page();
  page.mount();
  page.outbox.all().filter((entry) => entry.assignment !== page.client?.assignment).forEach((entry) => page.outbox.deliver(entry));
  document.body.dataset.annotate = "ready";
}
