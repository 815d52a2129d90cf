// Unfinished answers: kept in the browser at once and on the server after a pause. The newer version wins.

import { clockTime } from "./timer.js";

const PAUSE_MS = 700;
const RETRY_MS = 4000;

// The draft to show: the browser's own when the server never got it, else the server's.
export function newerDraft(local, serverDraft, serverVersion) {
  return local && !local.saved && local.version >= serverVersion ? local.draft : serverDraft;
}

export class Drafts {
  constructor({ storage, user, put, say, onConflict }) {
    Object.assign(this, { storage, prefix: `steelyard.draft.${user}.`, put, say, onConflict, timer: 0, current: null });
    window.addEventListener("pagehide", () => this.flush({ keepalive: true }));
    window.addEventListener("online", () => this.flush());
  }

  open({ assignment, draft, version, question }) {
    this.close();
    const local = JSON.parse(this.storage.getItem(this.prefix + assignment) || "null");
    const chosen = newerDraft(local, draft, version);
    this.current = { assignment, version: Math.max(version, local?.version || 0), question, draft: chosen, dirty: chosen !== draft, saving: false };
    if (this.current.dirty) this.later(0);
    return chosen;
  }

  close() {
    window.clearTimeout(this.timer);
    this.current = null;
  }

  forget(assignment) {
    this.storage.removeItem(this.prefix + assignment);
    if (this.current?.assignment === assignment) this.close();
  }

  change(draft) {
    if (!this.current) return;
    Object.assign(this.current, { draft, dirty: true });
    this.keep(false);
    this.later(PAUSE_MS);
  }

  keep(saved) {
    const { assignment, draft, version } = this.current;
    this.storage.setItem(this.prefix + assignment, JSON.stringify({ draft, version, saved }));
  }

  later(ms) {
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.flush(), ms);
  }

  async flush({ keepalive = false } = {}) {
    const open = this.current;
    if (!open || !open.dirty || open.saving) return;
    open.dirty = false;
    open.saving = true;
    const answers = { [open.question]: open.draft };
    const { status, body } = await this.put(open.assignment, { answers, version: open.version }, keepalive).catch(() => ({ status: 0 }));
    open.saving = false;
    if (this.current !== open) return;
    if (status === 200) {
      open.version = body.version;
      if (!open.dirty) this.keep(true);
      this.say(`Saved ${clockTime(new Date())}`);
    } else if (status === 409 && body?.code === "draft_conflict") {
      this.onConflict(body);
    } else if (status === 0 || status >= 500 || status === 429 || status === 403 || status === 401) {
      open.dirty = true;
      this.say("Not saved, retrying", true);
      this.later(RETRY_MS);
      return;
    }
    if (open.dirty) this.later(PAUSE_MS);
  }

  // After a conflict: go on from the other tab's version, with its text or with ours.
  settle({ draft, version }) {
    Object.assign(this.current, { draft, version, dirty: true });
    this.later(0);
  }
}
