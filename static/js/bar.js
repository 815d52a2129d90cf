// The decision bar: shows an answer and reads what is pressed in it.

import { History, choose, fromDraft, isLocked, isPending, missing } from "./answer.js";

export class Bar {
  constructor(form, client, draft, { onChange, onSubmit }) {
    Object.assign(this, { form, question: client.question, scale: client.scale, onChange });
    this.history = new History(fromDraft(this.question, draft));
    this.text = form.querySelector("#justification");
    this.hint = form.querySelector("#hint");
    form.addEventListener("change", (event) => this.read(event.target));
    form.addEventListener("submit", (event) => { event.preventDefault(); onSubmit(); });
    form.querySelector("#quote")?.addEventListener("click", () => this.quote());
    // A press keeps the selection, so that it can be quoted.
    form.querySelector("#quote")?.addEventListener("mousedown", (event) => event.preventDefault());
    this.text?.addEventListener("input", () => this.write());
    this.show();
  }

  get answer() {
    return this.history.current;
  }

  set(answer) {
    if (!this.history.set(answer)) return;
    this.show();
    this.onChange(this.answer);
  }

  step(name) {
    const moved = this.history[name]();
    if (moved) { this.show(); this.onChange(this.answer); }
    return moved;
  }

  read(target) {
    if (target.name === "choice") {
      const [choice, strength] = target.value.split(":");
      this.set(choose(this.question, this.answer, choice, strength ? Number(strength) : null));
      this.show();
    } else if (target.name === "reasons") {
      const reasons = [...this.form.querySelectorAll("[name=reasons]:checked")].map((box) => box.value);
      this.set({ ...this.answer, reasons });
    }
  }

  write() {
    this.history.set({ ...this.answer, justification: this.text.value }, { isStep: false });
    this.show();
    this.onChange(this.answer);
  }

  show() {
    const { choice, strength, reasons, justification } = this.answer;
    const value = strength ? `${choice}:${strength}` : choice;
    this.form.querySelectorAll("[name=choice]").forEach((radio) => { radio.checked = radio.value === value; });
    this.form.querySelectorAll("[name=reasons]").forEach((box) => { box.checked = reasons.includes(box.value); });
    const pending = isPending(this.question, this.answer);
    this.form.querySelector("#scale").dataset.pending = pending ? choice : "";
    this.form.toggleAttribute("data-open", this.opensWhy(choice));
    this.form.toggleAttribute("data-locked", isLocked(this.question, this.answer));
    if (this.text && this.text.value !== justification) this.text.value = justification;
    this.showText(choice, justification);
    this.say(pending || isLocked(this.question, this.answer) ? missing(this.question, this.answer) : "");
  }

  opensWhy(choice) {
    if (!choice) return false;
    return choice === "cannot_judge" || this.question.justification !== "off" || this.question.reasons.length > 0;
  }

  showText(choice, justification) {
    const label = this.form.querySelector("#why-label");
    if (!label) return;
    const isRequired = this.question.justification === "required";
    if (choice === "cannot_judge") label.textContent = "Why can it not be judged?";
    else label.textContent = isRequired ? "Why? (required)" : "Why?";
    this.form.querySelector("#why-text").hidden = this.question.justification === "off" && choice !== "cannot_judge";
    this.form.querySelector("#why-count").textContent = justification ? `${justification.length} characters` : "";
  }

  say(text, isBad = false) {
    this.hint.textContent = text;
    this.hint.dataset.state = isBad ? "bad" : "";
  }

  // What is missing, said and put in focus. "" when the answer can go.
  complain() {
    const problem = missing(this.question, this.answer);
    if (!problem) return "";
    this.say(problem, true);
    const wantsText = isLocked(this.question, this.answer) || (this.answer.choice && !isPending(this.question, this.answer));
    if (wantsText) this.text?.focus();
    else this.form.querySelector("[name=choice]").focus();
    return problem;
  }

  justify() {
    if (!this.text) return;
    this.form.toggleAttribute("data-open", true);
    if (!this.text.closest("[hidden]")) this.text.focus();
  }

  quote() {
    const selected = String(window.getSelection()).trim();
    if (!selected || !this.text) return this.say("Select words in a response first, then quote them.");
    const quoted = selected.split("\n").map((line) => `> ${line}`).join("\n");
    this.text.value = `${this.text.value}${this.text.value && !this.text.value.endsWith("\n") ? "\n" : ""}${quoted}\n`;
    this.write();
    this.text.focus();
    return undefined;
  }

  busy(isBusy) {
    this.form.toggleAttribute("data-busy", isBusy);
    this.form.querySelector("#submit").disabled = isBusy;
  }
}
