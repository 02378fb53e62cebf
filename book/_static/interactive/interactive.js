// Draws the interactive figures of a page (see rlvrlib/interactive.py for the form of the data).
"use strict";

{
  const library = new URL("plotly-basic.min.js", document.currentScript.src).href;
  const NARROW = 620; // pixels: below this the panels stand on one another
  const FONT_SIZE = 13; // pixels
  let loading;

  // Plotly is large: it is fetched once, when the first figure is about to be seen or touched.
  const plotly = () =>
    (loading ??= new Promise((resolve, reject) => {
      const script = Object.assign(document.createElement("script"), { src: library });
      script.onload = () => (window.Plotly ? resolve(window.Plotly) : reject(new Error("Plotly did not start")));
      script.onerror = () => reject(new Error("Plotly could not be loaded"));
      document.head.append(script);
    }));

  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  class Play {
    constructor(frame, number) {
      this.frame = frame;
      this.data = JSON.parse(frame.querySelector("script").textContent);
      this.state = this.data.controls.map((control) => control.start);
      this.readout = element("p", { className: "play-readout" });
      this.readout.setAttribute("role", "status"); // a polite live region
      this.plot = element("div", { className: "play-plot" });
      this.plot.setAttribute("role", "img");
      this.plot.setAttribute("aria-label", this.data.alt);
      const title = element("p", { className: "play-title", id: `play-${number}`, textContent: this.data.title });
      frame.setAttribute("role", "group");
      frame.setAttribute("aria-labelledby", title.id);
      const controls = element("div", { className: "play-controls" });
      this.data.controls.forEach((control, index) => controls.append(this.control(control, index)));
      frame.append(title, controls, this.readout, this.plot);
      frame.hidden = false;
      this.plot.style.minHeight = `${this.height()}px`;
      this.say();
    }

    control(control, index) {
      const name = element("span", { textContent: control.label });
      const change = (value) => {
        this.state[index] = Number(value);
        this.say();
        this.start();
      };
      if (!control.slider) {
        const options = control.values.map((text, value) => element("option", { value, textContent: text }));
        const select = element("select", {}, ...options);
        select.value = control.start;
        select.addEventListener("change", () => change(select.value));
        return element("label", {}, name, select);
      }
      const input = element("input", { type: "range", min: 0, max: control.values.length - 1, step: 1 });
      const shown = element("span", { className: "play-value", ariaHidden: "true" }); // the slider says it itself
      input.value = control.start;
      const tell = () => {
        shown.textContent = control.values[input.value];
        input.setAttribute("aria-valuetext", shown.textContent);
      };
      tell();
      input.addEventListener("input", () => {
        tell();
        change(input.value);
      });
      return element("label", {}, name, shown, input);
    }

    // The number of the present setting in a list that runs over the given controls, the last one fastest.
    place(controls) {
      return controls.reduce((place, control) => place * this.data.controls[control].values.length + this.state[control], 0);
    }

    say() {
      this.readout.textContent = this.data.readout[this.place(this.data.controls.map((_, index) => index))];
    }

    start() {
      this.drawn ??= plotly().then(
        (plotly) => {
          this.plotly = plotly;
          this.draw();
          new ResizeObserver(() => this.draw()).observe(this.plot);
          const theme = new MutationObserver(() => this.draw());
          theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
        },
        () => {
          this.plot.style.minHeight = "0";
          this.plot.removeAttribute("role");
          this.plot.removeAttribute("aria-label");
          this.plot.textContent = "The drawing script could not be loaded. The figure above shows the same computation.";
        },
      );
      if (this.plotly) this.draw();
    }

    narrow() {
      return this.frame.clientWidth < NARROW;
    }

    height() {
      return this.narrow() ? 90 + 250 * this.data.panels.length : 380;
    }

    draw() {
      // Several changes within one frame of the screen are drawn once.
      this.pending ??= requestAnimationFrame(() => {
        this.pending = undefined;
        const options = { displayModeBar: false, scrollZoom: false, doubleClick: false, showTips: false };
        this.plotly.react(this.plot, this.traces(), this.layout(), options);
        this.plot.style.minHeight = "";
        this.frame.dataset.drawn = this.state.join(","); // what is seen, for tests
      });
    }

    traces() {
      const ink = this.color("--pst-color-text-base");
      return this.data.curves.map((curve) => {
        const place = this.place(curve.controls);
        const row = (name) => (curve[name].length > 1 ? curve[name][place] : curve[name][0]);
        const { look } = curve;
        const color = look.color === "ink" ? ink : look.color;
        const axis = curve.panel ? curve.panel + 1 : "";
        const trace = {
          type: "scatter", x: row("x"), y: row("y"), xaxis: `x${axis}`, yaxis: `y${axis}`, name: curve.label,
          showlegend: curve.label !== "", hoverinfo: "x+y",
          mode: [look.dash && "lines", look.marker && "markers"].filter(Boolean).join("+"),
          line: { color, dash: look.dash, width: look.width }, marker: { color, symbol: look.marker, size: look.size },
        };
        if (curve.shade) {
          const shade = row("shade");
          Object.assign(trace.marker, { color: shade, colorscale: "Cividis", cmin: 0, cmax: 1 });
          trace.marker.size = shade.map((value) => look.size * (0.6 + 0.6 * (value ?? 0)));
        }
        return trace;
      });
    }

    layout() {
      const ink = this.color("--pst-color-text-base");
      const grid = "rgba(127, 127, 127, 0.25)";
      const count = this.data.panels.length;
      const gap = 0.14;
      const wide = (1 - gap * (count - 1)) / count;
      const layout = {
        width: this.plot.clientWidth, height: this.height(), margin: { l: 62, r: 20, t: 56, b: 52 },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: false,
        font: { color: ink, family: getComputedStyle(this.frame).fontFamily, size: FONT_SIZE },
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      };
      this.data.panels.forEach((panel, index) => {
        const suffix = index ? index + 1 : "";
        const start = index * (wide + gap);
        const own = [start, start + wide];
        const domains = this.narrow() ? { x: [0, 1], y: [1 - own[1], 1 - own[0]] } : { x: own, y: [0, 1] };
        for (const name of ["x", "y"]) {
          const { label, scale, range } = panel[name];
          const log = scale === "log";
          const ends = log ? range.map(Math.log10) : range;
          layout[`${name}axis${suffix}`] = {
            type: scale, range: ends, domain: domains[name], anchor: `${name === "x" ? "y" : "x"}${suffix}`,
            title: { text: label, standoff: 8 }, fixedrange: true, zeroline: false, gridcolor: grid, linecolor: ink, showline: true,
            ticks: "outside", tickcolor: ink, exponentformat: "power", automargin: false, ...(log ? this.logTicks(ends) : { nticks: 6 }),
          };
        }
      });
      return layout;
    }

    // Powers of ten, six at the most; on a short axis 1, 2 and 5 times them, as plain numbers.
    logTicks([low, high]) {
      // Plotly draws powers a quarter larger than other numbers.
      if (high - low > 1.7) return { dtick: Math.ceil((high - low) / 6), tickfont: { size: FONT_SIZE / 1.25 } };
      const powers = Array.from({ length: Math.floor(high) - Math.floor(low) + 1 }, (_, index) => Math.floor(low) + index);
      const values = powers.flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
      const inside = values.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
      return { tickvals: inside, ticktext: inside.map((value) => String(Number(value.toPrecision(3)))) };
    }

    color(name) {
      return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    }
  }

  addEventListener("DOMContentLoaded", () => {
    const seen = new IntersectionObserver(
      (entries) => {
        for (const entry of entries)
          if (entry.isIntersecting) {
            entry.target.play.start();
            seen.unobserve(entry.target);
          }
      },
      { rootMargin: "200px" },
    );
    document.querySelectorAll(".play").forEach((frame, number) => {
      frame.play = new Play(frame, number);
      seen.observe(frame);
    });
  });
}
