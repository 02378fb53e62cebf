// `rlvr plan` as a form: how the learning rate moves from a run that was stable to the next one.
"use strict";

{
  // Mean multiplier of the update at success rate J, in groups of G responses or, without G, in the limit of many.
  const laws = {
    product: (J, F) => J * F,
    centred: (J, F, G) => J * F * (G ? 1 - 1 / G : 1),
    rare: (J, F, G) => F * (G ? 1 - F ** G : 1),
    deviation: (J, F, G) => {
      if (!G) return Math.sqrt(J * F);
      let [sum, chance] = [0, G * Math.log(F)];
      for (let right = 0; right <= G; right++) {
        sum += Math.exp(chance) * Math.sqrt((right / G) * (1 - right / G));
        chance += Math.log((G - right) / (right + 1)) + Math.log(J / F);
      }
      return sum;
    },
    redrawn: (J, F, G) => laws.deviation(J, F, G) / (G ? 1 - J ** G - F ** G : 1),
  };

  // The longest guaranteed step: the largest of the success-rise, the failure-fall and the angle bound.
  const guarantee = J => {
    const F = 1 - J;
    return Math.max(2 * F, 2 * J * F / Math.min(1, 2 * F * Math.log(2 / F)), Math.sqrt(2 * J * F));
  };

  const factors = (facts, { fixed }, before, after) => {
    const divisor = setting => setting.aggregation === "sum" ? 1 : setting.length;
    const pull = (success, method, group) =>
      (fixed ? 1 : laws[facts.methods[method].law](success, 1 - success, group)) / guarantee(success);
    const steps = [
      pull(before.success, before.method, before.group), pull(before.success, after.method, before.group),
      pull(before.success, after.method, after.group), pull(after.success, after.method, after.group),
    ];
    return {
      length: before.length / after.length,
      "loss divisor": fixed ? 1 : divisor(after) / divisor(before),
      method: steps[0] / steps[1],
      "group size": steps[1] / steps[2],
      "success rate": steps[2] / steps[3],
    };
  };

  const start = (frame, number) => {
    const facts = JSON.parse(frame.querySelector("script").textContent);
    const options = names => names.map(name => `<option>${name}</option>`).join("");
    const methods = options(Object.keys(facts.methods));
    const rows = [
      ["length", "Response length, tokens", 'type="number" min="1" step="any"'],
      ["success", "Success rate", 'type="number" min="0.001" max="0.999" step="any"'],
      ["method", "Method", methods],
      ["aggregation", "The loss over the tokens is", `<option value="">as the method does</option><option value="sum">a sum</option>
        <option value="cap">divided by the cap</option><option value="mean">a mean</option>`],
      ["group", "Responses to a prompt", 'type="number" min="2" max="4096" step="1"'],
    ];
    const field = (side, [name, label, inside]) => {
      const about = `name="${side}-${name}" aria-label="${label}, ${side === "before" ? "stable run" : "next run"}"`;
      return `<td>${inside.startsWith("<") ? `<select ${about}>${inside}</select>` : `<input ${about} ${inside} required>`}</td>`;
    };
    frame.insertAdjacentHTML("beforeend", `<form aria-label="Rate calculator"><p class="rate-title">Which rate for the next run?</p>
      <table><thead><tr><td></td><th scope="col">stable run</th><th scope="col">next run</th></tr></thead><tbody>${rows.map(row =>
        `<tr><th scope="row">${row[1]}</th>${field("before", row)}${field("after", row)}</tr>`).join("")}</tbody></table>
      <label>Learning rate of the stable run <input name="rate" type="text" inputmode="decimal" required></label>
      <label>Optimizer <select name="optimizer">${options(Object.keys(facts.optimizers))}</select></label>
      <output class="rate-answer" aria-live="polite"></output><ul class="rate-factors"></ul>
      <p class="rate-means">The step stays the same share of the longest guaranteed one, if the alignment and the range of the token
      scores stay the same. No run with AdamW has tested it here: begin with a short one.</p><pre tabindex="0"></pre></form>`);
    const form = frame.querySelector("form");
    const at = name => form.elements[name];
    for (const side of ["before", "after"])
      for (const [name, value] of Object.entries(facts[side])) at(`${side}-${name}`).value = value;
    at("rate").value = facts.rate.toExponential();

    const setting = side => {
      const [length, success, group] = ["length", "success", "group"].map(name => Number(at(`${side}-${name}`).value));
      const method = at(`${side}-method`).value;
      return { length, success, group, method, aggregation: at(`${side}-aggregation`).value || facts.methods[method].aggregation };
    };
    const show = value => String(Number(value.toPrecision(3)));
    const answer = () => {
      const rate = Number(at("rate").value);
      const [said, list, code] = [form.querySelector("output"), form.querySelector("ul"), form.querySelector("pre")];
      const wrong = !form.checkValidity() || !(rate > 0 && rate < Infinity);
      for (const part of [list, form.querySelector(".rate-means"), code]) part.hidden = wrong;
      if (wrong) {
        const broken = [...form.elements].find(element => element.willValidate && !element.checkValidity());
        said.textContent = broken ? `${broken.ariaLabel ?? "Learning rate"}: ${broken.validationMessage}` : "Learning rate: a positive number is needed, such as 1e-6.";
        delete frame.dataset.total;
        return;
      }
      const [before, after, optimizer] = [setting("before"), setting("after"), at("optimizer").value];
      const found = factors(facts, facts.optimizers[optimizer], before, after);
      const total = Object.values(found).reduce((product, value) => product * value, 1);
      frame.dataset.total = total; // what is shown, for tests
      const far = Math.max(total, 1 / total) > facts.large * (1 + 1e-12);
      said.textContent = `Start with ${show(rate * total)}: ${show(total)} times the old rate.${far
        ? ` That is a factor above ${facts.large}, which no run of this book has tested: go there in several changes, each with a short run.` : ""}`;
      list.innerHTML = Object.entries(found).filter(([, value]) => Math.abs(value - 1) > 1e-12).map(([name, value]) =>
        `<li><strong>${show(value)}</strong> ${name}: ${facts.optimizers[optimizer].reasons[name]}</li>`).join("");
      const words = [`rlvr plan --optimizer ${optimizer} --lr ${at("rate").value}`, `--from-length ${before.length} --to-length ${after.length}`,
        `--success ${before.success} --to-success ${after.success}`, `--method ${before.method} --to-method ${after.method}`,
        `--aggregation ${before.aggregation} --to-aggregation ${after.aggregation}`, `--group-size ${before.group} --to-group-size ${after.group}`];
      code.textContent = words.join(" \\\n  ");
    };
    form.addEventListener("input", answer);
    form.addEventListener("submit", event => event.preventDefault());
    answer();
    frame.hidden = false;
  };

  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".rate-plan").forEach(start));
}
