/** Applies changes (`changes` in neftune_core/figures/base.py) to an earlier version of a figure. */

/**
 * Return a trace after a change.
 * @param {Record<string, any> | undefined} old
 * @param {Grown} change
 * @returns {Trace}
 */
const grownTrace = (old, change) => {
  if (change.whole) return change.whole;
  /** @type {any} */
  const trace = { ...old, ...change.set };
  for (const [name, [kept, more]] of Object.entries(change.lists || {})) trace[name] = [...old?.[name].slice(0, kept), ...more];
  return trace;
};

/**
 * Return the figure after the changes, without modifying either argument.
 * @param {Figure} figure
 * @param {{rest: Partial<Figure>, traces: Record<string, Grown>, order?: string[]}} changes
 * @returns {Figure}
 */
export const grown = (figure, { rest, traces, order }) => {
  const known = new Map(figure.data.map((trace) => [trace.uid, trace]));
  const ids = order || [...known.keys()];
  const data = ids.map((id) => (traces[id] ? grownTrace(known.get(id), traces[id]) : /** @type {Trace} */ (known.get(id))));
  return { ...figure, ...rest, data };
};
