// "Run this page": a form for the parameters, a worker that runs the page's own cells, outputs in place.
"use strict";

const script = document.currentScript;
const HERE = new URL("./", script.src);
const notebook = script.dataset.notebook;

addEventListener("DOMContentLoaded", () => (notebook ? offerNotebook() : offerDiagnosis()));

const make = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};

let worker, heard;
function send(message, listener) {
  heard = listener;
  if (!worker) {
    worker = new Worker(new URL("worker.js", HERE));
    worker.onmessage = ({ data }) => heard(data);
    worker.onerror = event => {
      stop();
      heard({ kind: "broken", message: event.message || "the worker ended" });
    };
    keepOffline();
  }
  worker.postMessage(message);
}
function stop() {
  worker?.terminate();
  worker = undefined;
}

// What this page has loaded stays for a visit without a network; where that is off, nothing is lost.
async function keepOffline() {
  try {
    await navigator.serviceWorker.register(new URL("../offline.js", HERE));
    const { active } = await navigator.serviceWorker.ready;
    const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
    active.postMessage([location.href, ...loaded].filter(url => url.startsWith(new URL("../", HERE).href)));
  } catch { /* a page opened from disk, or storage that is off */ }
}

function reason() {
  if (location.protocol === "file:") return "A page that is opened from disk cannot run: serve the folder, for example with make serve.";
  if (typeof WebAssembly === "undefined") return "This browser has no WebAssembly, so the page cannot run here.";
  return "";
}

async function offerNotebook() {
  const inputs = [...document.querySelectorAll("div.cell")].filter(cell => cell.querySelector(".cell_input"));
  const place = document.querySelector("article h1")?.closest("section");
  if (!place) return;
  const open = make("button", { type: "button", className: "live-open", textContent: "Run this page" });
  const status = make("p", { className: "live-status" });
  status.setAttribute("role", "status");
  const panel = make("div", { className: "live" }, open, status);
  place.querySelector("h1").after(panel);
  open.onclick = async () => {
    if (reason()) return void (status.textContent = reason());
    open.disabled = true;
    try {
      const answer = await fetch(new URL(`${notebook}.json`, HERE));
      if (!answer.ok) throw new Error();
      showForm(panel, open, status, inputs, await answer.json());
    } catch {
      open.disabled = false;
      status.textContent = "The files that run this page are not there; the page itself is complete.";
    }
  };
  if (new URLSearchParams(location.search).has("live")) open.click();
}

function showForm(panel, open, status, cells, facts) {
  const asked = new URLSearchParams(location.search);
  const controls = Object.fromEntries(facts.fields.map(field => [field.name, control(field, asked)]));
  const given = () => Object.fromEntries(facts.fields
    .map(field => [field.name, read(controls[field.name])])
    .filter(([name, value]) => value !== String(facts.fields.find(field => field.name === name).value)));
  const run = make("button", { type: "submit", textContent: "Run" });
  const halt = make("button", { type: "button", textContent: "Stop", disabled: true });
  const reset = make("button", { type: "reset", textContent: "Reset" });
  const edit = make("button", { type: "button", textContent: "Edit the cells" });
  const link = make("a", { textContent: "Link to these parameters" });
  const bar = make("progress", { max: cells.length, value: 0, hidden: true });
  bar.setAttribute("aria-label", "cells that have run");
  const rows = facts.fields.map(field => make("label", {},
    make("span", { className: "live-name", textContent: field.name }), controls[field.name],
    make("small", { textContent: [field.meaning, field.range].filter(Boolean).join(", ") })));
  const form = make("form", {}, ...rows, make("p", { className: "live-buttons" }, run, halt, reset, edit, link), bar);
  open.replaceWith(form);
  const size = (facts.bytes / 1e6).toFixed(0);
  status.textContent = `The first run loads ${size} MB; nothing leaves your machine.`;
  const relink = () => { link.href = `?${new URLSearchParams({ live: "", ...given() })}`; };
  form.oninput = relink;
  form.onreset = () => setTimeout(relink);
  relink();
  edit.onclick = () => {
    for (const cell of cells) cell.querySelector(".cell_input pre").setAttribute("contenteditable", "plaintext-only");
    edit.disabled = true;
  };
  const idle = text => { run.disabled = false; halt.disabled = true; status.textContent = text; };
  halt.onclick = () => { stop(); idle("Stopped. Outputs above the stop are new, those below are as published."); };
  form.onsubmit = event => {
    event.preventDefault();
    run.disabled = true;
    halt.disabled = false;
    bar.hidden = false;
    bar.value = 0;
    const began = performance.now();
    const edited = Object.fromEntries(facts.cells.map((cell, index) => [index, source(cells[index])])
      .filter(([index, text]) => edit.disabled && text !== undefined && text.trim() !== facts.cells[index].source.trim()));
    const seconds = () => ((performance.now() - began) / 1000).toFixed(1);
    send({ kind: "run", notebook, cells: facts.cells, data: facts.data, given: given(), edited }, message => ({
      loading: () => { status.textContent = `Loading ${message.what} …`; },
      refused: () => idle(`Not run: ${message.message}`),
      cell: () => { bar.value = message.index; status.textContent = `Cell ${message.index + 1} of ${cells.length}, ${seconds()} s`; },
      outputs: () => put(cells[message.index], message.outputs),
      failed: () => idle(`Cell ${message.index + 1} failed: ${message.message}`),
      broken: () => { stop(); idle(`The run ended: ${message.message}. The page below its last new output is as published.`); },
      done: () => { bar.value = cells.length; idle(`Done in ${seconds()} s. ${verdicts()}`); },
    })[message.kind]());
  };
}

function control(field, asked) {
  const value = asked.get(field.name) ?? String(field.value);
  if (field.choices.length) {
    const select = make("select", {}, ...field.choices.map(choice => make("option", { textContent: choice, selected: String(choice) === value, defaultSelected: choice === field.value })));
    return select;
  }
  if (field.type === "bool") return make("input", { type: "checkbox", checked: value === "true", defaultChecked: field.value });
  const made = make("input", { type: "text", value, defaultValue: String(field.value), autocomplete: "off" });
  if (field.type === "int") made.inputMode = "numeric";
  if (field.type === "float") made.inputMode = "decimal";
  made.value = value;
  return made;
}
const read = input => (input.type === "checkbox" ? String(input.checked) : input.value.trim());
const source = cell => cell?.querySelector(".cell_input pre")?.textContent.replace(/\n$/, "");

// New outputs take the place of the old ones; a figure keeps its caption.
function put(cell, outputs) {
  let place = cell.querySelector(".cell_output");
  if (!place && outputs.length) cell.append(place = make("div", { className: "cell_output docutils container" }));
  if (!place) return;
  const captions = [...place.querySelectorAll("figcaption")];
  place.replaceChildren(...outputs.map(output => {
    const holder = make(output.figure ? "figure" : "div", { innerHTML: output.html, className: "live-output" });
    if (output.figure && captions.length) holder.append(captions.shift());
    if (output.claims) holder.dataset.claims = JSON.stringify(output.claims.map(row => [row.key, row.verdict]));
    return holder;
  }));
  place.classList.add("live-new");
}

function verdicts() {
  const rows = [...document.querySelectorAll("[data-claims]")].flatMap(one => JSON.parse(one.dataset.claims));
  const count = start => rows.filter(([, verdict]) => verdict.startsWith(start)).length;
  const parts = [["holds", "hold"], ["fails", "fail"], ["outside", "outside the assumptions"], ["recorded", "recorded"]];
  return rows.length ? `Claims: ${parts.map(([start, word]) => `${count(start)} ${word}`).join(", ")}.` : "";
}

function offerDiagnosis() {
  const place = document.querySelector("article h1");
  if (!place) return;
  const status = make("p", { className: "live-status", textContent: "Drop a training log here, or choose one. Nothing leaves your machine; the first time Python is loaded." });
  status.setAttribute("role", "status");
  const file = make("input", { type: "file", id: "live-log" });
  const text = make("textarea", { rows: 3, placeholder: "or paste the log" });
  text.setAttribute("aria-label", "training log");
  const button = make("button", { type: "button", textContent: "Diagnose" });
  const report = make("iframe", { className: "live-report", hidden: true, title: "Report", sandbox: "" });
  const panel = make("div", { className: "live" }, make("label", { htmlFor: "live-log", textContent: "Diagnose a log in this page" }), file, text, button, status, report);
  place.after(panel);
  const start = async (name, bytes) => {
    if (reason()) return void (status.textContent = reason());
    send({ kind: "diagnose", name: name.replace(/[^\w.-]/g, "_").slice(-80) || "log.txt", bytes }, message => ({
      loading: () => { status.textContent = `Loading ${message.what} …`; },
      refused: () => { status.textContent = message.message; },
      broken: () => { stop(); status.textContent = `The diagnosis ended: ${message.message}`; },
      report: () => { status.textContent = "The report:"; report.hidden = false; report.srcdoc = message.page; },
    })[message.kind]());
  };
  button.onclick = async () => {
    if (file.files[0]) start(file.files[0].name, await file.files[0].arrayBuffer());
    else if (text.value.trim()) start("pasted.txt", new TextEncoder().encode(text.value).buffer);
    else status.textContent = "There is no log yet: choose a file or paste its text.";
  };
  panel.ondragover = event => event.preventDefault();
  panel.ondrop = async event => {
    event.preventDefault();
    const dropped = event.dataTransfer.files[0];
    if (dropped) start(dropped.name, await dropped.arrayBuffer());
  };
}
