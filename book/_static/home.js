// The home page's figure: drag the step across its threshold. The problem is that of the overshooting theorem, in closed form.
"use strict";

addEventListener("DOMContentLoaded", () => {
  const frame = document.querySelector(".home-play");
  if (!frame) return;
  const { delta, initial, steps } = Object.fromEntries(Object.entries(frame.dataset).map(([name, value]) => [name, Number(value)]));
  const [LOW, HIGH] = [0.02, 4];
  const box = { width: 340, height: 250, left: 46, right: 12, top: 26, bottom: 44 };

  // One step of size eta adds delta eta - log cosh eta to the log-odds.
  const gain = size => delta * size - (size - Math.LN2 + Math.log1p(Math.exp(-2 * size)));
  const rate = (size, count) => 1 / (1 + Math.exp(-Math.log(initial / (1 - initial)) - count * gain(size)));
  let [below, above] = [1e-3, 50];
  for (let turn = 0; turn < 60; turn++) {
    const middle = (below + above) / 2;
    if (gain(middle) > 0) below = middle; else above = middle;
  }
  const critical = below;

  const make = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const across = share => box.left + share * (box.width - box.left - box.right);
  const up = value => box.height - box.bottom - value * (box.height - box.top - box.bottom);
  const share = size => Math.log(size / LOW) / Math.log(HIGH / LOW);
  const line = points => points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

  const panel = (title, label, ticks) => {
    const svg = make("svg", { viewBox: `0 0 ${box.width} ${box.height}`, role: "img", "aria-label": title });
    svg.append(make("text", { x: box.left, y: 15, class: "title" }, title));
    for (const value of [0, 0.5, 1]) {
      svg.append(make("line", { x1: across(0), x2: across(1), y1: up(value), y2: up(value), class: "grid" }));
      svg.append(make("text", { x: box.left - 6, y: up(value) + 4, "text-anchor": "end" }, `${value * 100} %`));
    }
    for (const [place, text] of ticks)
      svg.append(make("text", { x: across(place), y: box.height - box.bottom + 18, "text-anchor": "middle" }, text));
    svg.append(make("text", { x: across(0.5), y: box.height - 6, "text-anchor": "middle" }, label));
    return svg;
  };

  const course = panel("Success rate during one run", "training step", [[0, "0"], [0.5, steps / 2], [1, steps]]);
  const path = make("path", { class: "curve" });
  course.append(path);

  const sizes = [0.03, 0.1, 0.3, 1, 3];
  const whole = panel(`Success rate after ${steps} steps`, "size of the step (drag)", sizes.map(size => [share(size), String(size)]));
  const grid = Array.from({ length: 161 }, (_, place) => LOW * (HIGH / LOW) ** (place / 160));
  whole.append(make("line", { x1: across(share(critical)), x2: across(share(critical)), y1: up(0), y2: up(1), class: "critical" }));
  whole.append(make("path", { class: "curve", d: line(grid.map(size => [across(share(size)), up(rate(size, steps))])) }));
  const guide = make("line", { y1: up(0), y2: up(1), class: "guide" });
  const handle = make("circle", { r: 11, class: "handle" });
  whole.append(guide, handle);
  whole.classList.add("drag");

  frame.innerHTML = `<label class="home-slider">Size of the step
    <input type="range" min="0" max="160" step="1"></label><p class="home-says" role="status"></p>`;
  const slider = frame.querySelector("input");
  const says = frame.querySelector("p");
  const panels = document.createElement("div");
  panels.className = "home-panels";
  panels.append(whole, course);
  frame.prepend(panels);

  const percent = value => value < 0.005 ? "below 1 %" : value > 0.995 ? "above 99 %" : `${Math.round(100 * value)} %`;
  const show = place => {
    const size = LOW * (HIGH / LOW) ** (place / 160);
    const end = rate(size, steps);
    slider.value = place;
    guide.setAttribute("x1", across(place / 160));
    guide.setAttribute("x2", across(place / 160));
    handle.setAttribute("cx", across(place / 160));
    handle.setAttribute("cy", up(end));
    const counts = Array.from({ length: steps + 1 }, (_, count) => count);
    path.setAttribute("d", line(counts.map(count => [across(count / steps), up(rate(size, count))])));
    const side = size < critical ? "below" : "above";
    const text = `Step ${size.toPrecision(2)}, ${side} the critical step ${critical.toPrecision(2)}: in ${steps} steps the success rate goes from ${percent(initial)} to ${percent(end)}.`;
    says.textContent = text;
    slider.setAttribute("aria-valuetext", text);
    frame.dataset.size = size; // what is seen, for tests
    frame.dataset.end = end;
    for (const svg of [whole, course]) svg.classList.toggle("fails", size > critical);
  };
  slider.addEventListener("input", () => {
    show(Number(slider.value));
    history.replaceState(null, "", `?step=${slider.value}`);
  });
  const drag = event => {
    if (event.type === "pointerdown") whole.setPointerCapture(event.pointerId);
    else if (!whole.hasPointerCapture(event.pointerId)) return;
    const bounds = whole.getBoundingClientRect();
    const x = (event.clientX - bounds.left) / bounds.width * box.width;
    show(Math.round(160 * Math.min(1, Math.max(0, (x - across(0)) / (across(1) - across(0))))));
  };
  whole.addEventListener("pointerdown", drag);
  whole.addEventListener("pointermove", drag);

  const asked = Number(new URLSearchParams(location.search).get("step") ?? NaN);
  show(asked >= 0 && asked <= 160 ? asked : 110);
  frame.hidden = false;
  frame.closest(".home-live").classList.add("plays");
});
