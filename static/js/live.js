// One socket a page. A poke becomes the DOM event live:<topic> on <body>; regions refetch themselves.
// Every connect and reconnect fires all topics once, which fetches whatever was missed meanwhile.

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 15000;

export function nextDelay(attempt, random = Math.random) {
  const base = Math.min(FIRST_DELAY_MS * 2 ** attempt, LONGEST_DELAY_MS);
  return Math.round(base * (0.5 + random() / 2));
}

export function socketUrl(location, topics) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${location.host}/live/?topics=${topics.map(encodeURIComponent).join(",")}`;
}

function announce(topic, event) {
  document.body.dispatchEvent(new CustomEvent(`live:${topic}`, { detail: { event } }));
}

function showOffline(isOffline) {
  const state = document.getElementById("live-state");
  if (state) state.hidden = !isOffline;
}

function connect(topics, attempt = 0) {
  const socket = new WebSocket(socketUrl(window.location, topics));
  let ready = false;
  socket.addEventListener("message", (message) => {
    const poke = JSON.parse(message.data);
    if (poke.event === "ready") {
      ready = true;
      showOffline(false);
      document.body.dataset.live = "ready";
      topics.forEach((topic) => announce(topic, "resync"));
      return;
    }
    announce(poke.topic, poke.event);
  });
  socket.addEventListener("close", (closed) => {
    document.body.dataset.live = "closed";
    if (closed.code >= 4400 && closed.code < 4500) return; // not allowed: asking again will not help
    if (attempt > 0 || ready) showOffline(true);
    const again = ready ? 0 : attempt + 1;
    window.setTimeout(() => connect(topics, again), nextDelay(again));
  });
}

if (typeof document !== "undefined") {
  const topics = (document.body.dataset.liveTopics || "").split(",").map((t) => t.trim()).filter(Boolean);
  if (topics.length) connect(topics);
}
