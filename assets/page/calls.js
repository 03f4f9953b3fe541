/** Keeps the stream of server answers open until every call is answered.

   The framework receives the answers to all calls through one stream, which the server closes when every call is answered. If
   the page sends a call before it has read the end of the stream, the framework opens no new stream, and the answer waits on
   the server until the next call. While a call is unanswered, this module therefore replaces a closed stream with a new one.

   It also sends the messages `call-sent`, `call-news` and `call-over`, each with the id of the component that caused the call. */
import { say } from "./parts.js";

const END = "close_stream";

/** Number of calls that the server has not accepted yet. */
let sending = 0;
/** Accepted calls that are not answered yet: the component that caused each, by id of the call. @type {Map<string, number>} */
const unanswered = new Map();
/** Ids of calls that were answered before their acceptance arrived. @type {Set<string>} */
const early = new Set();

/** @type {(place: RequestInfo | URL, options?: RequestInit) => Promise<Response>} */
const asking = window.fetch;

/** Send a call and note its id. @param {RequestInfo | URL} place @param {RequestInit} [options] */
const send = async (place, options) => {
  const cause = typeof options?.body === "string" ? Number(JSON.parse(options.body).trigger_id) : NaN;
  let isOpen = false;
  sending += 1;
  say("call-sent", cause);
  try {
    const answer = await asking(place, options);
    const id = answer.ok ? String((await answer.clone().json()).event_id) : "";
    isOpen = Boolean(id) && !early.delete(id);
    if (isOpen) unanswered.set(id, cause);
    return answer;
  } finally {
    sending -= 1;
    if (!isOpen) say("call-over", cause);
  }
};

/** Note that a call is over. @param {string} id */
const end = (id) => {
  const cause = unanswered.get(id);
  if (!unanswered.delete(id)) return false;
  say("call-over", cause);
  return true;
};

/** Note the first results or the end of a call. @param {string} event one message of a stream */
const note = (event) => {
  const [, id] = /"event_id":\s*"(\w+)"/.exec(event) || [];
  const [, news] = /"msg":\s*"process_(completed|generating)"/.exec(event.slice(0, 200)) || [];
  if (!id || !news) return;
  if (news === "generating") say("call-news", unanswered.get(id));
  else if (!end(id)) early.add(id);
};

/** Report all open calls as over when the connection is lost, since their answers may never arrive. */
const lose = () => unanswered.forEach((cause) => say("call-over", cause));

/** Return the stream of answers, continued while calls are unanswered. @param {RequestInfo | URL} place @param {RequestInit} [options] */
const receive = async (place, options) => {
  const open = () => asking(place instanceof Request ? place.clone() : place, options);
  const answer = await open();
  if (!answer.ok || !answer.body) return answer;
  let reader = answer.body.getReader();
  const [decoder, encoder] = [new TextDecoder(), new TextEncoder()];
  let rest = "";

  /** Return the messages to pass on. @param {Uint8Array} block */
  const passed = async (block) => {
    const events = (rest + decoder.decode(block, { stream: true })).split("\n\n");
    rest = events.pop() || "";
    events.forEach(note);
    const last = events.at(-1) || "";
    if (last.length > 200 || !last.includes(END) || !(sending || unanswered.size)) return events;
    const next = await open().catch(() => null);
    if (!next?.ok || !next.body) return events;
    reader = next.body.getReader();
    return events.slice(0, -1);
  };
  const body = new ReadableStream({
    async pull(controller) {
      for (;;) {
        const { done, value } = await reader.read().catch((problem) => {
          lose();
          throw problem;
        });
        if (done) {
          lose();
          return controller.close();
        }
        const events = await passed(value);
        if (events.length) return controller.enqueue(encoder.encode(events.map((event) => event + "\n\n").join("")));
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { headers: answer.headers, status: answer.status });
};

window.fetch = async (place, options) => {
  const { pathname } = new URL(place instanceof Request ? place.url : place, location.href);
  if (pathname.endsWith("/queue/join")) return send(place, options);
  if (pathname.endsWith("/queue/data")) return receive(place, options);
  if (pathname.endsWith("/cancel") && typeof options?.body === "string") end(JSON.parse(options.body).event_id);
  return asking(place, options);
};
