// Words that differ between two texts: Myers' O(ND) over words, bounded, so that long texts stay quick.

const MOST_EDITS = 1500;

// A word or a sign with the white space behind it.
export function words(text) {
  return text.match(/[\p{L}\p{N}_'’-]+\s*|[^\s\p{L}\p{N}_]\s*|\s+/gu) || [];
}

// Which words of a and b have no partner in the other: two arrays of booleans. Null when the texts differ too much.
export function unmatched(a, b, mostEdits = MOST_EDITS) {
  const most = Math.min(a.length + b.length, mostEdits);
  const trace = [];
  let ends = new Map([[1, 0]]);
  for (let d = 0; d <= most; d += 1) {
    trace.push(new Map(ends));
    for (let k = -d; k <= d; k += 2) {
      const isDown = k === -d || (k !== d && (ends.get(k - 1) ?? -1) < (ends.get(k + 1) ?? -1));
      let x = isDown ? ends.get(k + 1) : ends.get(k - 1) + 1;
      while (x < a.length && x - k < b.length && isSame(a[x], b[x - k])) x += 1;
      ends.set(k, x);
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trace, d);
    }
  }
  return null;
}

function isSame(one, other) {
  return one.trim() === other.trim();
}

function walkBack(a, b, trace, edits) {
  const onlyA = new Array(a.length).fill(false);
  const onlyB = new Array(b.length).fill(false);
  let x = a.length;
  let y = b.length;
  for (let d = edits; d > 0; d -= 1) {
    const ends = trace[d];
    const k = x - y;
    const isDown = k === -d || (k !== d && (ends.get(k - 1) ?? -1) < (ends.get(k + 1) ?? -1));
    const before = isDown ? k + 1 : k - 1;
    const startX = ends.get(before);
    const startY = startX - before;
    if (isDown) onlyB[startY] = true;
    else onlyA[startX] = true;
    x = startX;
    y = startY;
  }
  return [onlyA, onlyB];
}

// Fill an element with the text, words without a partner marked.
export function showMarked(target, tokens, marks) {
  const parts = [];
  tokens.forEach((token, n) => {
    const isMarked = marks[n] && token.trim() !== "";
    const previous = parts[parts.length - 1];
    if (previous && previous.isMarked === isMarked) previous.text += token;
    else parts.push({ isMarked, text: token });
  });
  target.replaceChildren(...parts.map(({ isMarked, text }) => {
    if (!isMarked) return document.createTextNode(text);
    const mark = document.createElement("mark");
    mark.textContent = text;
    return mark;
  }));
}
