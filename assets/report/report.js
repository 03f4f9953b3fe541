(() => {
  "use strict";
  const NARROW = 640;
  const isTable = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const merged = (under, over) => {
    const result = { ...under };
    for (const [key, value] of Object.entries(over || {}))
      result[key] = isTable(value) && isTable(result[key]) ? merged(result[key], value) : value;
    return result;
  };
  const coloured = (value, style) => {
    if (typeof value === "string") return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    if (Array.isArray(value)) return value.map((part) => coloured(part, style));
    if (!isTable(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part, style)]));
  };
  /** Draw every figure at the width that it has; on paper that is less, and always light. */
  const draw = (width) => {
    const style = getComputedStyle(document.documentElement);
    for (const node of document.querySelectorAll(".plot")) {
      const { data, layout, narrow, log } = FIGURES[Number(node.dataset.figure)];
      const room = width || node.clientWidth;
      const laid = { ...(room < NARROW ? merged(layout, narrow) : layout), width: room };
      if (log)
        for (const name of Object.keys(laid))
          if (name.startsWith("yaxis")) laid[name] = { ...laid[name], type: "log", rangemode: "normal" };
      Plotly.react(node, coloured(data, style), coloured(laid, style), { displaylogo: false, showSendToCloud: false, responsive: false });
    }
  };
  draw();
  addEventListener("resize", () => draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
  addEventListener("beforeprint", () => draw(680));
  addEventListener("afterprint", () => draw());
})();
