// Measurements inside the page, for `page.py`. Times are in milliseconds unless noted otherwise.
window.labProbes = {
  // Records when the first picture and its slider are shown, and when every tab can be opened.
  wait() {
    const seen = (window.labWaited = {});
    const look = () => {
      if (document.querySelector('.lab-stage-line[d]') && document.querySelector('.lab-stage-time input')?.max > 0)
        seen.picture ??= performance.now();
      if (window.Lab && document.body?.dataset.labOpened) seen.opened ??= performance.now();
      requestAnimationFrame(look);
    };
    look();
  },

  // Returns when the first figure is complete, which is when the recorded study's curves are drawn; 0 until then.
  picture: () => (document.querySelector('.lab-stage-line[d]') ? performance.now() : 0),

  // Returns the speed at which the page receives its largest file, including latency, in megabits per second.
  async speed() {
    const script = document.querySelector('script[src*="page-files"]').src;
    const address = script.replace(/[^/]*$/, 'plotly.min.js');
    const start = performance.now();
    await (await fetch(address, { cache: 'no-store' })).arrayBuffer();
    const { encodedBodySize } = performance.getEntriesByName(address).at(-1);
    return (encodedBodySize * 8) / 1000 / (performance.now() - start);
  },

  // Moves the slider and times each redraw, which is complete when the event has been handled.
  async slider(moves) {
    const slider = document.querySelector('#noise-strength input[type=range]');
    const figure = document.querySelector('#noise-figure .lab-figure-plot').labFigure;
    const times = [];
    for (let move = 1; move <= moves; move++) {
      await new Promise((go) => setTimeout(go, 40));
      const before = figure.redraws;
      slider.value = move * Number(slider.step || 0.5);
      const start = performance.now();
      slider.dispatchEvent(new Event('input', { bubbles: true }));
      times.push(performance.now() - start);
      if (figure.redraws === before) throw new Error('the figure was not redrawn');
    }
    return times;
  },

  // Records the last step in the curves and the time in seconds, once per frame with a new step.
  points() {
    const plot = () => document.querySelector('#train-curves .lab-figure-plot');
    const seen = (window.labSeen = []);
    plot().labFirst = true;
    const look = () => {
      const step = Math.max(0, ...(plot().data ?? []).map((trace) => trace.x?.at(-1) ?? 0));
      if (step > (seen.at(-1)?.[0] ?? 0)) seen.push([step, Date.now() / 1000]);
      requestAnimationFrame(look);
    };
    look();
  },

  // Measures the time from pressing Train until Plotly has drawn a figure of the new study.
  firstPoint() {
    const figure = () => document.querySelector('#train-curves .lab-figure-plot').labFigure;
    const before = figure().value;
    const press = () => {
      const start = performance.now();
      const look = () => {
        const { value, drawn } = figure();
        if (value !== before && value?.data.length && drawn?.value === value)
          window.labPoint = performance.now() - start;
        else requestAnimationFrame(look);
      };
      look();
    };
    document.querySelector('#lab-train').addEventListener('click', press, { once: true, capture: true });
  },
};
