// From one item to the next: submit, retry, refuse, undo, skip. Mixed into the page, which owns the parts.

import { toAnswers } from "./answer.js";
import { newKey } from "./outbox.js";
import { clockTime } from "./timer.js";

const LONGEST_WAIT_MS = 15000;
const byId = (id) => document.getElementById(id);

export const flow = {
  async submit() {
    if (!this.client || this.isSending || this.bar.complain()) return;
    const unseen = this.panes.unseen();
    if (unseen) { this.panes.selectTab(unseen); this.bar.say(`Look at the ${unseen} response too, then submit.`, true); return; }
    const { assignment, question, form_version } = this.client;
    const body = { answers: toAnswers(question, this.bar.answer), active_seconds: this.clock.seconds(Date.now()), idempotency_key: newKey(), form_version, shown: this.panes.shown() };
    this.drafts.close();
    this.outbox.put({ assignment, body });
    await this.send({ assignment, body });
  },

  async send(entry) {
    this.isSending = true;
    this.bar.busy(true);
    const { result, body, status } = await this.outbox.deliver(entry);
    this.isSending = false;
    this.bar.busy(false);
    if (result === "done") {
      this.drafts.forget(entry.assignment);
      sessionStorage.removeItem(`steelyard.active.${entry.assignment}`);
      this.tabs.moved(entry.assignment);
      this.say(`Saved ${clockTime(new Date())}`);
      if (body?.judgement?.is_surplus) this.announce("Kept as an extra answer: the item had been filled meanwhile.");
      await this.next();
    } else this.refused(body, status);
  },

  refused(body, status) {
    const isOver = ["already_submitted", "skipped"].includes(body?.code) || status === 404;
    const actions = isOver || body?.code === "form_version" ? [["Load the item again", () => this.next()]] : [];
    this.notice(body?.detail || `The server refused the answer (${status}).`, "bad", actions);
    this.say("Not saved", true);
    const { draft, draft_version: version, assignment, question } = this.client;
    this.drafts.open({ assignment, draft, version, question: question.name });
    this.drafts.change(this.bar.answer);
  },

  // The next card, without a page load. The answer before it is safe by now, so this may simply be tried again.
  async next() {
    for (let attempt = 0; ; attempt += 1) {
      const response = await fetch(this.cardUrl, { headers: { "HX-Request": "true" } }).catch(() => null);
      if (response?.redirected || (response && response.status >= 400 && response.status < 500)) { window.location.reload(); return; }
      if (response?.ok) { this.swap(await response.text()); return; }
      this.say("The next item cannot be loaded, retrying", true);
      await new Promise((resolve) => { setTimeout(resolve, Math.min(1000 * 2 ** attempt, LONGEST_WAIT_MS)); });
    }
  },

  swap(html) {
    byId("card").innerHTML = html;
    this.mount();
    byId("prompt-heading")?.focus();
    this.announce(this.client ? `Item ${this.client.number} loaded` : byId("prompt-heading").textContent);
  },

  async undoLast() {
    if (this.isSending) return;
    if (this.client && this.bar.step("undo")) return;
    if (!this.undo || this.client?.is_reopened) { this.tell("Nothing to undo"); return; }
    await this.drafts.flush();
    const { status, body } = await this.api("POST", this.undo, "reopen").catch(() => ({ status: 0 }));
    if (status === 200) await this.next();
    else this.tell(body?.detail || "The last answer cannot be reopened now");
  },

  async skip(values) {
    const { assignment } = this.client;
    const result = await this.api("POST", assignment, "skip", values);
    if (result.status === 204) { this.drafts.forget(assignment); this.tabs.moved(assignment); await this.next(); }
    return result;
  },

  sendState(state, entry, attempt) {
    const isHere = entry.assignment === this.client?.assignment;
    if (state === "sending" && attempt === 0) this.say("Sending…");
    if (state === "retry") { this.say("Not saved, retrying", true); if (isHere) this.bar.say("The server does not answer. Your answer is kept here and sent again by itself.", true); }
    if (state === "login") { this.say("Not saved: log in again", true); if (isHere) this.notice("You are logged out. Log in in another tab; this answer stays here and is sent then.", "warn"); }
    if (!isHere && state === "done") this.say("An earlier answer was sent");
  },

  conflict({ draft, version }) {
    const name = this.client.question.name;
    const settle = (chosen) => { this.drafts.settle({ draft: chosen, version }); byId("task-notice").hidden = true; };
    this.say("Not saved: a newer draft exists", true);
    this.notice("Another tab has a newer draft of this item.", "warn", [
      ["Use the newer", () => { const theirs = draft[name] || {}; settle(theirs); this.bar.set({ choice: null, strength: null, reasons: [], justification: "", ...theirs }); }],
      ["Keep this one", () => settle(this.bar.answer)],
    ]);
  },

  lost(isLost) {
    if (isLost) this.notice("Your time on this item ran out and it went to somebody else. You can still submit: the answer is kept, as an extra if it is no longer needed.", "warn");
    else byId("task-notice").hidden = true;
  },
};
