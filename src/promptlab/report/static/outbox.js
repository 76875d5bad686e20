// The outbox: what a served page has to send, by address, until the server has it. Outlives the page
// where the browser keeps things; several pages of one browser share it.

import { memory } from "./memory.js";

const PREFIX = "promptlab-outbox:";
const unkept = new Map(); // address -> items, where the browser keeps nothing

export const outbox = {
  items: (address) => unkept.get(address) || memory.read(PREFIX + address) || [],

  /** Put items in; one replaces an older one of the same key. Returns whether they outlive the page. */
  add(address, items, keyOf) {
    const keys = new Set(items.map(keyOf));
    return put(address, [...outbox.items(address).filter((item) => !keys.has(keyOf(item))), ...items]);
  },

  /** Take out what the server has; an item that was replaced meanwhile stays. */
  drop(address, items) {
    const sent = new Set(items.map((item) => JSON.stringify(item)));
    put(address, outbox.items(address).filter((item) => !sent.has(JSON.stringify(item))));
  },

  /** The addresses that something waits for. */
  addresses() {
    const found = new Set(unkept.keys());
    try {
      for (let i = 0; i < localStorage.length; i += 1) {
        const key = localStorage.key(i);
        if (key.startsWith(PREFIX)) found.add(key.slice(PREFIX.length));
      }
    } catch {
      /* a browser that keeps nothing */
    }
    return [...found].filter((address) => outbox.items(address).length);
  },
};

function put(address, items) {
  const isKept = memory.write(PREFIX + address, items);
  if (isKept) unkept.delete(address);
  else unkept.set(address, items);
  return isKept;
}

/** Send JSON; the answer's JSON, or an error with the status (0: no connection) and the words. */
export async function send(address, body, options = {}) {
  let response;
  try {
    const text = JSON.stringify(body);
    response = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: text, keepalive: text.length < 60_000, ...options });
  } catch {
    throw Object.assign(new Error("no connection"), { status: 0 });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.error || `the server answers ${response.status}`), { status: response.status });
  return answer;
}
