// Answers that have not reached the server yet. An entry leaves the browser's storage only on a 2xx or a refusal.

const FIRST_MS = 1000;
const LONGEST_MS = 30000;

export function delayMs(attempt, random = Math.random) {
  return Math.round(Math.min(FIRST_MS * 2 ** attempt, LONGEST_MS) * (0.75 + random() / 2));
}

// What an answer of the server means for an entry. 401 and 403: the session ended; logging in again heals it.
export function outcome(status) {
  if (status >= 200 && status < 300) return "done";
  if (status === 401 || status === 403) return "login";
  if (status === 0 || status === 408 || status === 413 || status === 425 || status === 429 || status >= 500) return "retry";
  return "refused";
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  constructor({ storage, user, post, onState, wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms)) }) {
    Object.assign(this, { storage, prefix: `steelyard.outbox.${user}.`, post, onState, wait });
    this.wake = null;
    if (typeof window !== "undefined") window.addEventListener("online", () => this.wake?.());
  }

  put(entry) {
    this.storage.setItem(this.prefix + entry.assignment, JSON.stringify(entry));
  }

  find(assignment) {
    return JSON.parse(this.storage.getItem(this.prefix + assignment) || "null");
  }

  remove(assignment) {
    this.storage.removeItem(this.prefix + assignment);
  }

  all() {
    const keys = Array.from({ length: this.storage.length }, (_, n) => this.storage.key(n));
    return keys.filter((key) => key.startsWith(this.prefix)).map((key) => JSON.parse(this.storage.getItem(key)));
  }

  // Send until the server has said yes or no. The key stays the same, so a repeat adds nothing.
  async deliver(entry) {
    for (let attempt = 0; ; attempt += 1) {
      this.onState("sending", entry, attempt);
      const { status, body } = await this.post(entry).catch(() => ({ status: 0, body: null }));
      const result = outcome(status);
      if (result === "done" || result === "refused") {
        this.remove(entry.assignment);
        this.onState(result, entry, attempt, body);
        return { result, body, status };
      }
      this.onState(result, entry, attempt, body);
      await Promise.race([this.wait(delayMs(attempt)), new Promise((resolve) => { this.wake = resolve; })]);
    }
  }
}
