/** Keeps the stream of server answers open until every call is answered.

   The framework receives the answers to all calls through one stream, which the server closes when every call is answered. If
   the page sends a call before it has read the end of the stream, the framework opens no new stream, and the answer waits on
   the server until the next call. While a call is unanswered, this module therefore replaces a closed stream with a new one. */

const END = "close_stream";

/** Number of calls that the server has not accepted yet. */
let sending = 0;
/** Ids of accepted calls that are not answered yet. @type {Set<string>} */
const unanswered = new Set();
/** Ids of calls that were answered before their acceptance arrived. @type {Set<string>} */
const early = new Set();

/** @type {(place: RequestInfo | URL, options?: RequestInit) => Promise<Response>} */
const asking = window.fetch;

/** Send a call and note its id. @param {RequestInfo | URL} place @param {RequestInit} [options] */
const send = async (place, options) => {
  sending += 1;
  try {
    const answer = await asking(place, options);
    const id = answer.ok ? String((await answer.clone().json()).event_id) : "";
    if (id && !early.delete(id)) unanswered.add(id);
    return answer;
  } finally {
    sending -= 1;
  }
};

/** Note a completed call. @param {string} event one message of a stream */
const note = (event) => {
  const [, id] = /"event_id":\s*"(\w+)"/.exec(event) || [];
  if (!id || !/"msg":\s*"process_completed"/.test(event.slice(0, 200))) return;
  if (!unanswered.delete(id)) early.add(id);
};

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
        const { done, value } = await reader.read();
        if (done) return controller.close();
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
  if (pathname.endsWith("/cancel") && typeof options?.body === "string") unanswered.delete(JSON.parse(options.body).event_id);
  return asking(place, options);
};
