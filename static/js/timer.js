// Seconds of attention, and what is left of a lease.

export const IDLE_MS = 60000;
export const LEASE_SHOWN_MS = 120000;

// Counts while the page is visible and somebody touched it within the last minute. Times are passed in.
export class ActiveClock {
  constructor(now, seconds = 0) {
    this.total = seconds * 1000;
    this.last = now;
    this.lastInput = now;
    this.isVisible = true;
  }

  tick(now) {
    const end = Math.min(now, this.lastInput + IDLE_MS);
    if (this.isVisible && end > this.last) this.total += end - this.last;
    this.last = Math.max(this.last, now);
  }

  input(now) {
    this.tick(now);
    this.lastInput = now;
  }

  show(isVisible, now) {
    this.tick(now);
    this.isVisible = isVisible;
    if (isVisible) this.lastInput = now;
  }

  seconds(now) {
    this.tick(now);
    return Math.round(this.total / 100) / 10;
  }
}

// "" while there is plenty of time, "1:45 left" in the last two minutes, "Time is up" after it.
export function leaseText(until, now) {
  if (!until || until - now > LEASE_SHOWN_MS) return "";
  if (until <= now) return "Time is up";
  const seconds = Math.ceil((until - now) / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
}

export function clockTime(date) {
  return date.toLocaleTimeString([], { hour12: false });
}

const HEARTBEAT_MS = 60000;

// Keeps a lease alive while its page is visible and shows how long it lasts.
export class LeaseKeeper {
  constructor({ label, renew, onLost }) {
    Object.assign(this, { label, renew, onLost, until: null, isLost: false, lastBeat: 0 });
    window.setInterval(() => this.tick(Date.now()), 1000);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.beat(Date.now());
    });
  }

  start(until) {
    this.until = until ? Date.parse(until) : null;
    this.isLost = false;
    this.lastBeat = Date.now();
    this.tick(Date.now());
  }

  stop() {
    this.until = null;
    this.label.hidden = true;
  }

  tick(now) {
    const text = this.isLost ? "Time is up" : leaseText(this.until, now);
    this.label.textContent = text;
    this.label.hidden = !text;
    if (this.until && !document.hidden && now - this.lastBeat > HEARTBEAT_MS) this.beat(now);
  }

  async beat(now) {
    if (!this.until) return;
    this.lastBeat = now;
    const { status, body } = await this.renew().catch(() => ({ status: 0 }));
    if (status !== 200) return;
    const wasLost = this.isLost;
    this.isLost = body.lease_until === null;
    if (body.lease_until) this.until = Date.parse(body.lease_until);
    if (this.isLost !== wasLost) this.onLost(this.isLost);
    this.tick(Date.now());
  }
}
