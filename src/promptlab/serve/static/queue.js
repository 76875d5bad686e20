// The page of the queue as a whole: what is asked for, what the queue is, and the connection between.
// What cannot be sent waits in the outbox, with the verdicts of sheets that were closed meanwhile.

import { makeCompose } from "./compose.js";
import { byId, say } from "./dom.js";
import { makeEntries } from "./entries.js";
import { outbox, send } from "./outbox.js";

const QUEUE = "/api/queue";
const RETRY_MS = 5000;
const keyOf = (item) => item.client_id;

function start() {
  const state = { isLost: false, entries: [], choices: null, refused: new Map() }; // refused: client_id -> why
  const app = {
    /** Put a wish into the queue, now or when there is a connection. */
    wish(wish) {
      const clientId = Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");
      outbox.add(QUEUE, [{ client_id: clientId, wish }], keyOf);
      entries.fill();
      return flush();
    },
    unsent: () => outbox.items(QUEUE).map((item) => ({ ...item, refused: state.refused.get(item.client_id) || "" })),
    discard(clientId) {
      outbox.drop(QUEUE, outbox.items(QUEUE).filter((item) => item.client_id === clientId));
      entries.fill();
    },
    /** Do something with an entry; says what the server has against it. */
    async act(entry, what, body = {}) {
      try {
        await send(`${QUEUE}/${entry.entry_id}/${what}`, body);
      } catch (error) {
        say(error.status ? error.message : "No connection: try again");
      }
    },
    mayRun: () => state.choices?.role === "run",
    edit: (line) => compose.edit(line),
    entries: () => state.entries,
  };
  const compose = makeCompose(byId("compose"), app);
  const entries = makeEntries(byId("entries"), app);
  let isSending = false;
  let source = null;

  /** Send what waits, the oldest first, and what is asked for meanwhile. */
  async function flush() {
    if (isSending) return;
    isSending = true;
    try {
      do {
        for (let item = nextUnsent(); item; item = nextUnsent()) await sendWish(item);
        await sendVerdicts();
      } while (nextUnsent());
    } catch (error) {
      if (error.status) say(error.message);
      setTimeout(flush, RETRY_MS);
    }
    isSending = false;
    entries.fill();
  }

  const nextUnsent = () => outbox.items(QUEUE).find((item) => !state.refused.has(item.client_id));

  /** Send one wish; one that the server refuses stays, with its reason. */
  async function sendWish(item) {
    try {
      const entry = await send(QUEUE, { wish: { ...item.wish, client_id: item.client_id } });
      outbox.drop(QUEUE, [item]);
      say(`Queued: ${countText(entry.num_images)}`);
    } catch (error) {
      if (!error.status || error.status === 429 || error.status >= 500) throw error;
      state.refused.set(item.client_id, error.message);
    }
  }

  /** Send the verdicts that sheets left behind when they were closed without a connection. */
  async function sendVerdicts() {
    for (const address of outbox.addresses()) {
      if (!/^\/runs\/[^/]+\/picks$/.test(address)) continue;
      const picks = outbox.items(address);
      await send(address, { picks, sent_at: new Date().toISOString() });
      outbox.drop(address, picks);
    }
  }

  function follow() {
    source = new EventSource(`${QUEUE}/events`);
    source.addEventListener("queue", (event) => {
      state.entries = JSON.parse(event.data).entries;
      entries.fill();
    });
    source.addEventListener("open", () => {
      setLost(false);
      flush();
      choose();
    });
    source.addEventListener("error", () => {
      setLost(true);
      if (source.readyState !== EventSource.CLOSED) return;
      source.close();
      setTimeout(follow, RETRY_MS);
    });
  }

  /** Ask once what may be chosen, and done, by who came here. */
  async function choose() {
    try {
      state.choices ||= await (await fetch("/api/choices")).json();
    } catch {
      return; // the next connection asks again
    }
    compose.connect(state.choices);
    entries.fill();
  }

  function setLost(isLost) {
    state.isLost = isLost;
    byId("state").textContent = isLost ? "No connection: what you ask for is kept and sent later" : "";
    byId("state").classList.toggle("is-lost", isLost);
  }

  window.addEventListener("online", () => {
    setLost(source.readyState !== EventSource.OPEN);
    flush();
  });
  window.addEventListener("offline", () => setLost(true));
  follow();
  document.documentElement.dataset.ready = "1";
}

export const countText = (count) => (count === null ? "images" : `${count.toLocaleString("en")} image${count === 1 ? "" : "s"}`);

start();
