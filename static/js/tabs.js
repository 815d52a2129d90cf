// Several tabs of one person on one queue: each says hello, the others answer, and a submit moves them all on.

export class TabWatch {
  constructor(name, { onOther, onMoved }) {
    this.id = Math.random().toString(36).slice(2);
    this.others = new Set();
    this.onOther = onOther;
    if (typeof BroadcastChannel === "undefined") return;
    this.channel = new BroadcastChannel(`steelyard.annotate.${name}`);
    this.channel.onmessage = ({ data }) => {
      if (data.kind === "hello") this.post("here");
      if (data.kind === "hello" || data.kind === "here") this.others.add(data.from);
      if (data.kind === "bye") this.others.delete(data.from);
      if (data.kind === "moved") onMoved(data.assignment);
      onOther(this.others.size > 0);
    };
    window.addEventListener("pagehide", () => this.post("bye"));
    window.addEventListener("pageshow", (event) => { if (event.persisted) this.hello(); });
  }

  post(kind, values = {}) {
    this.channel?.postMessage({ kind, from: this.id, ...values });
  }

  hello() {
    this.post("hello");
  }

  moved(assignment) {
    this.post("moved", { assignment });
  }
}
