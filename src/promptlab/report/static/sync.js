// Sync: on a served page a verdict goes to the run at once. It waits in the outbox until the server
// has it, through a dead connection and a closed tab; what others say comes back with the answer.

import { say } from "./dom.js";
import { memory } from "./memory.js";
import { outbox, send } from "./outbox.js";

const DELAY_MS = 150; // verdicts given so close together are one request
const MAX_SENT = 200; // verdicts of one request
const MAX_DELAY_MS = 30_000; // between two tries
const keyOf = ({ image_id: id, who }) => `${id} ${who}`;

export function makeSync(sheet, { onState, picks, who }) {
  const { served } = sheet;
  const address = new URL(served.picks, location.href).pathname;
  let version = served.picks_version;
  let timer = 0;
  let isSending = false;
  let numTries = 0; // in vain, since the last answer
  let trouble = ""; // why nothing is sent

  const waiting = () => outbox.items(address);
  const mayJudge = served.role !== "view";

  /** Keep verdicts to be sent; returns whether they outlive the page. */
  function save(_, changed) {
    if (!changed.length || !mayJudge) return true;
    const isKept = outbox.add(address, changed, keyOf);
    schedule(DELAY_MS);
    return isKept;
  }

  function schedule(delayMs) {
    clearTimeout(timer);
    timer = setTimeout(flush, delayMs);
  }

  /** Send what waits, and hear what others said since. */
  async function flush() {
    if (isSending) return;
    isSending = true;
    const batch = waiting().slice(0, MAX_SENT);
    try {
      const answer = await send(address, { picks: batch, version, who: who(), sent_at: new Date().toISOString() });
      outbox.drop(address, batch);
      numTries = 0;
      trouble = "";
      hear(answer);
      if (answer.refused.length) say(`Not kept: ${answer.refused[0]}`);
    } catch (error) {
      numTries += 1;
      trouble = error.status ? error.message : "no connection";
    }
    isSending = false;
    if (trouble) schedule(Math.min(MAX_DELAY_MS, 1000 * 2 ** numTries));
    else if (waiting().length) schedule(DELAY_MS);
    onState();
  }

  /** Take in what the server told of verdicts. */
  function hear(news) {
    version = news.version;
    const keys = new Set(waiting().map(keyOf));
    picks().hear(news.news, (pick) => keys.has(keyOf(pick)));
  }

  function stateText() {
    const count = waiting().length;
    if (!mayJudge) return "View only";
    return count && (trouble || count > MAX_SENT) ? `${count} waiting` : count ? "Saving" : "Saved";
  }

  const retry = () => waiting().length && schedule(0);
  window.addEventListener("online", retry);
  document.addEventListener("visibilitychange", () => !document.hidden && retry());
  window.addEventListener("pagehide", () => waiting().length && flush());
  if (mayJudge && (served.is_blind || waiting().length)) schedule(0);

  return { save, hear, kept: waiting(), stateText, trouble: () => trouble, numWaiting: () => waiting().length, retry, mayJudge };
}

/** The name that verdicts bear here: the own one, with that of the link that led to this page. */
export function signature({ role, link, who }, name) {
  const own = name || (role === "rate" ? guestName() : "");
  if (!own) return who;
  return link ? `${own} (${link})` : own;
}

/** A name for who tells none: people who judge by one link are told apart. */
function guestName() {
  const known = memory.read("promptlab-guest");
  if (known) return known;
  const name = `guest ${Math.random().toString(36).slice(2, 6)}`;
  memory.write("promptlab-guest", name);
  return name;
}
