// The two responses: full width, tabs on a narrow screen, scrolling together, raw text, marked words, read to the end.

import { showMarked, unmatched, words } from "./diff.js";

const [SIDES, NARROW] = [["left", "right"], "(max-width: 899px)"];

// Where the other pane should stand: the same share of its way.
export function syncedTop(from, to) {
  const way = from.scrollHeight - from.clientHeight;
  return way <= 0 ? 0 : Math.round((from.scrollTop / way) * (to.scrollHeight - to.clientHeight));
}

export class Panes {
  constructor(task, modes, say) {
    Object.assign(this, { task, modes, say, turn: -1, syncing: false });
    this.panes = task.querySelector("#panes");
    this.viewed = new Set();
    this.ended = new Set();
    this.narrow = window.matchMedia(NARROW);
    this.bodies = Object.fromEntries(SIDES.map((side) => [side, task.querySelector(`#pane-${side} .pane-body`)]));
    SIDES.forEach((side) => this.attach(side));
    task.querySelector("#prompt-toggle").addEventListener("click", () => this.foldPrompt());
    task.querySelector("#earlier-toggle")?.addEventListener("click", () => this.showEarlier());
    this.selectTab("left");
    this.applyModes();
  }

  attach(side) {
    const body = this.bodies[side];
    body.addEventListener("scroll", () => { this.follow(side); this.tick(side); }, { passive: true });
    new ResizeObserver(() => this.tick(side)).observe(body);
    const tab = this.task.querySelector(`#tab-${side}`);
    tab.addEventListener("click", () => this.selectTab(side));
    tab.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") this.selectTab(side === "left" ? "right" : "left", true);
    });
    this.swipe(body);
  }

  swipe(body) {
    let start = null;
    body.addEventListener("touchstart", (event) => { start = event.touches[0]; }, { passive: true });
    body.addEventListener("touchend", (event) => {
      const end = event.changedTouches[0];
      const across = end.clientX - start.clientX;
      if (this.narrow.matches && Math.abs(across) > 70 && Math.abs(end.clientY - start.clientY) < 40) {
        this.selectTab(across < 0 ? "right" : "left");
      }
    }, { passive: true });
  }

  selectTab(side, isFocused = false) {
    this.panes.dataset.tab = side;
    if (this.narrow.matches) this.viewed.add(side);
    SIDES.forEach((name) => {
      const tab = this.task.querySelector(`#tab-${name}`);
      tab.setAttribute("aria-selected", String(name === side));
      tab.tabIndex = name === side ? 0 : -1;
      tab.toggleAttribute("data-viewed", this.viewed.has(name));
      if (isFocused && name === side) tab.focus();
    });
    this.tick(side);
  }

  // The side that a narrow screen has not shown yet; null when both were looked at.
  unseen() {
    if (!this.narrow.matches) return null;
    this.viewed.add(this.panes.dataset.tab);
    return SIDES.find((side) => !this.viewed.has(side)) || null;
  }

  tick(side) {
    const body = this.bodies[side];
    if (!body.clientHeight || body.scrollTop + body.clientHeight < body.scrollHeight - 8) return;
    this.ended.add(side);
    this.task.querySelector(`#pane-${side} .read-tick`).hidden = false;
  }

  follow(side) {
    if (!this.modes.sync) return;
    if (this.syncing) { this.syncing = false; return; }
    const other = this.bodies[side === "left" ? "right" : "left"];
    const top = syncedTop(this.bodies[side], other);
    if (Math.abs(other.scrollTop - top) < 2) return;
    this.syncing = true;
    other.scrollTop = top;
  }

  focusSide(side) {
    if (this.narrow.matches) { this.selectTab(side); return; }
    const isOn = this.panes.dataset.focus === side;
    if (isOn) delete this.panes.dataset.focus;
    else this.panes.dataset.focus = side;
    SIDES.forEach((name) => {
      this.task.querySelector(`[data-action=focus_${name}]`).setAttribute("aria-pressed", String(!isOn && name === side));
    });
    this.bodies[side].focus();
  }

  toggle(mode) {
    this.modes[mode] = !this.modes[mode];
    if (mode === "diff") [this.modes.raw, this.modes.rawBefore] = this.modes.diff ? [true, this.modes.raw] : [this.modes.rawBefore, false]; // marks need raw text
    if (mode === "raw" && !this.modes.raw) this.modes.diff = false;
    this.applyModes();
    const names = { raw: ["Raw text", "Formatted text"], sync: ["Both scroll together", "Each scrolls alone"], diff: ["Differing words are marked", "Marks off"] };
    this.say(names[mode][this.modes[mode] ? 0 : 1]);
  }

  applyModes() {
    this.task.querySelectorAll(".rendered").forEach((part) => { part.hidden = this.modes.raw; });
    this.task.querySelectorAll(".pane .raw").forEach((part) => { part.hidden = !this.modes.raw; });
    const [lefts, rights] = SIDES.map((side) => [...this.bodies[side].querySelectorAll(".raw-text")]);
    lefts.forEach((left, n) => rights[n] && this.mark(left, rights[n]));
  }

  mark(left, right) {
    const tokens = [left, right].map((pre) => words(pre.textContent));
    const marks = this.modes.diff ? unmatched(...tokens) : null;
    if (this.modes.diff && !marks) this.say("The responses differ too much for single words to be marked");
    showMarked(left, tokens[0], marks ? marks[0] : []);
    showMarked(right, tokens[1], marks ? marks[1] : []);
  }

  foldPrompt() {
    const isFolded = this.task.querySelector("#prompt").classList.toggle("folded");
    const button = this.task.querySelector("#prompt-toggle");
    button.setAttribute("aria-expanded", String(!isFolded));
    button.textContent = isFolded ? "Show prompt" : "Hide prompt";
  }

  showEarlier(isShown = this.task.querySelector("#earlier").hidden) {
    this.task.querySelector("#earlier").hidden = !isShown;
    this.task.querySelector("#earlier-toggle").setAttribute("aria-expanded", String(isShown));
  }

  stepTurn(by) {
    if (this.task.querySelector("#earlier")) this.showEarlier(true);
    const turns = [...this.task.querySelectorAll("#prompt .message")];
    const at = this.turn < 0 ? turns.length - 1 : this.turn;
    this.turn = Math.max(0, Math.min(turns.length - 1, at + by));
    turns.forEach((turn, n) => turn.classList.toggle("current", n === this.turn));
    turns[this.turn]?.scrollIntoView({ block: "nearest" });
  }

  shown() {
    const layout = this.narrow.matches ? "tabs" : "side_by_side";
    return { layout, viewport: [window.innerWidth, window.innerHeight], viewed: this.narrow.matches ? [...this.viewed] : SIDES, read_to_end: [...this.ended], ...this.modes };
  }
}
