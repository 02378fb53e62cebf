// Python in the page: loads the core and the packages, then runs the cells that the page sends.
"use strict";

const FILES = new URL("./", self.location).href;
const tell = (kind, more = {}) => postMessage({ kind, ...more });
let ready, page;

async function start() {
  tell("loading", { what: "Python" });
  importScripts(`${FILES}pyodide/pyodide.js`);
  const python = await loadPyodide({ indexURL: `${FILES}pyodide/`, fullStdLib: false });
  tell("loading", { what: "NumPy, SciPy and Matplotlib" });
  await python.loadPackage(["numpy", "scipy", "matplotlib"], { messageCallback: () => {} });
  tell("loading", { what: "the library" });
  const library = await (await fetch(`${FILES}library.zip`)).arrayBuffer();
  const site = python.runPython("import site; site.getsitepackages()[0]");
  python.unpackArchive(library, "zip", { extractDir: site });
  python.runPython("import os; os.environ['MPLBACKEND'] = 'agg'");
  return python;
}

// A dictionary of Python's as an object, whatever it holds.
const plain = value => value.toJs({ dict_converter: Object.fromEntries });

async function run({ notebook, cells, data, given, edited }) {
  const python = await (ready ??= start());
  tell("loading", { what: "the notebook" });
  if (data) python.unpackArchive(await (await fetch(`${FILES}${notebook}.zip`)).arrayBuffer(), "zip");
  const { Page } = python.pyimport("rlvrlib.running.in_page");
  try {
    page?.destroy();
    page = Page(python.toPy(cells), python.toPy(given));
  } catch (error) {
    return tell("refused", { message: lastLine(error) });
  }
  for (const index of cells.keys()) {
    tell("cell", { index });
    try {
      const outputs = page.run(index, edited[index] ?? undefined);
      tell("outputs", { index, outputs: plain(outputs) });
      outputs.destroy();
    } catch (error) {
      return tell("failed", { index, message: lastLine(error) });
    }
  }
  tell("done");
}

async function diagnose({ name, bytes }) {
  const python = await (ready ??= start());
  tell("loading", { what: "the log" });
  const path = `/tmp/${name}`;
  python.FS.writeFile(path, new Uint8Array(bytes));
  try {
    const logs = python.pyimport("rlvrlib.practice.run_log");
    const judge = python.pyimport("rlvrlib.practice.diagnosis");
    const pages = python.pyimport("rlvrlib.practice.report");
    tell("report", { page: pages.report(python.toPy([judge.diagnose(logs.read_log(path))])) });
  } catch (error) {
    tell("refused", { message: lastLine(error) });
  } finally {
    python.FS.unlink(path);
  }
}

const lastLine = error => String(error.message ?? error).trim().split("\n").pop();

onmessage = ({ data }) =>
  (data.kind === "run" ? run(data) : diagnose(data))
    .catch(error => tell("broken", { message: lastLine(error) }));
