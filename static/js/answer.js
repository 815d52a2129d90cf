// The answer to a pairwise question: pure functions and its history. No DOM, no network.

export const EMPTY = Object.freeze({ choice: null, strength: null, reasons: [], justification: "" });
const SIDES = ["left", "right"];

export function takesStrength(question, choice) {
  return question.points === 7 && SIDES.includes(choice);
}

export function isPending(question, answer) {
  return takesStrength(question, answer.choice) && !answer.strength;
}

export function isOffered(question, choice) {
  if (choice === "tie") return question.allow_tie;
  if (choice === "both_bad") return question.allow_both_bad;
  if (choice === "cannot_judge") return question.allow_cannot_judge;
  return SIDES.includes(choice);
}

// Reason-first forms open the choice once a reason stands.
export function isLocked(question, answer) {
  return question.reason_first && !answer.justification.trim() && answer.reasons.length === 0;
}

export function choose(question, answer, choice, strength = null) {
  if (!isOffered(question, choice) || isLocked(question, answer)) return answer;
  return { ...answer, choice, strength: takesStrength(question, choice) ? strength : null };
}

// A digit is a place on the scale; right after a coarse choice, 1 to 3 say how much better.
export function pressDigit(question, scale, answer, digit) {
  if (isPending(question, answer) && digit >= 1 && digit <= 3) return choose(question, answer, answer.choice, digit);
  const point = scale[digit - 1];
  return point ? choose(question, answer, point.choice, point.strength) : answer;
}

// What still stands between the answer and its submit; "" when nothing does.
export function missing(question, answer) {
  if (isLocked(question, answer)) return "Write why first; then the choice opens.";
  if (!answer.choice) return "Choose an answer first.";
  if (isPending(question, answer)) return "How much better? 1 slightly, 2 clearly, 3 much.";
  if (question.justification === "required" && !answer.justification.trim()) return "Write why in a sentence or two.";
  return "";
}

// As the server takes it.
export function toAnswers(question, answer) {
  const isAsked = question.justification !== "off" || answer.choice === "cannot_judge";
  return { [question.name]: { ...answer, justification: isAsked ? answer.justification : "" } };
}

// A draft, from whatever version of the form it was made under.
export function fromDraft(question, draft) {
  const choice = draft && isOffered(question, draft.choice) ? draft.choice : null;
  return {
    choice,
    strength: takesStrength(question, choice) ? draft.strength || null : null,
    reasons: ((draft && draft.reasons) || []).filter((reason) => question.reasons.includes(reason)),
    justification: (draft && draft.justification) || "",
  };
}

export function mirror(answer) {
  const other = { left: "right", right: "left" };
  return { ...answer, choice: other[answer.choice] || answer.choice };
}

export class History {
  constructor(answer) {
    this.current = answer;
    this.past = [];
    this.future = [];
  }

  // Text is kept without a step of its own: a text field undoes its own typing.
  set(answer, { isStep = true } = {}) {
    if (JSON.stringify(answer) === JSON.stringify(this.current)) return false;
    if (isStep) {
      this.past.push(this.current);
      this.future = [];
    }
    this.current = answer;
    return true;
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.current);
    this.current = { ...this.past.pop(), justification: this.current.justification };
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.current);
    this.current = { ...this.future.pop(), justification: this.current.justification };
    return true;
  }
}
