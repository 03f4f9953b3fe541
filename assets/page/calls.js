/** Keeps answers of the server from being lost.

   The framework gets the answers to all calls through one stream, which the server ends when no call is left to answer. If the
   page sends a call before it has read that end, the framework opens no stream for it, and the answer waits on the server until
   the next call. So while a call is unanswered, this module does not pass the end on: it continues with a new stream. */

const END = "close_stream";

/** Calls that the server has not accepted yet. */
let sending = 0;
/** Ids of the accepted calls whose answer has not come. @type {Set<string>} */
const unanswered = new Set();
/** Ids of calls whose answer came before that of their acceptance. @type {Set<string>} */
const early = new Set();

/** @type {(place: RequestInfo | URL, options?: RequestInit) => Promise<Response>} */
const asking = window.fetch;

/** @param {RequestInfo | URL} place @param {RequestInit} [options] */
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

/** @param {string} event one message of a stream */
const note = (event) => {
  const [, id] = /"event_id":\s*"(\w+)"/.exec(event) || [];
  if (!id || !/"msg":\s*"process_completed"/.test(event.slice(0, 200))) return;
  if (!unanswered.delete(id)) early.add(id);
};

/** The stream of answers, continued while calls are unanswered. @param {RequestInfo | URL} place @param {RequestInit} [options] */
const receive = async (place, options) => {
  const open = () => asking(place instanceof Request ? place.clone() : place, options);
  const answer = await open();
  if (!answer.ok || !answer.body) return answer;
  let reader = answer.body.getReader();
  const [decoder, encoder] = [new TextDecoder(), new TextEncoder()];
  let rest = "";

  /** The messages to pass on. @param {Uint8Array} block */
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
