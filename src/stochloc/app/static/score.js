/** The tab that colours every token by its bits, two texts side by side. */

import { Cells, spoken } from "./cells.js";
import { el } from "./dom.js";
import { sharing } from "./downloads.js";
import { area, modelChoice } from "./forms.js";
import { BITS, bitsOf, counted, shown } from "./scales.js";
import { View } from "./view.js";

const NAMES = ["A", "B"];

export class ScoreView extends View {
  constructor(server, changed) {
    super({ id: "score", title: "Score", path: "/api/score", action: "Score", open: 2 }, server,
      fields(server.models), changed);
    this.form.element.classList.add("two");
  }

  body() {
    const { A, B, ...rest } = this.form.body();
    return { ...rest, text: [A, B].filter((text) => text !== undefined) };
  }

  show({ lines, estimator, denoiser_calls: calls, remarks = [] }) {
    const pair = el("div", { class: "pair" }, ...lines.map((line, n) => scored(line, NAMES[n])));
    const share = sharing("stochloc-score", () => lines.map(asText).join("\n"), () => this.asking.answer,
      () => pair);
    this.result.replaceChildren(el("p", { class: "figures" },
      `${comparison(lines)}Bits are ${estimator}; ${counted(calls, "call")}.`),
    ...remarks.map((remark) => el("p", { class: "aside" }, remark)), pair, BITS.legend(), share);
    return comparison(lines) || "The text is scored.";
  }
}

function scored(line, name) {
  if (line.refused !== null) return el("div", {}, el("h2", {}, name), el("p", { class: "problem" }, line.refused));
  const cells = new Cells(`Text ${name}, coloured by bits`);
  cells.show(line.tokens.map(({ token, nats }) => ({
    text: token, shade: BITS.shade(bitsOf(nats)), says: `${spoken(token)}, ${shown(bitsOf(nats))} bits`,
  })));
  const whole = line.nats_with_length ?? line.nats;
  const length = line.nats_with_length == null ? "" : " with its length";
  return el("div", { class: "stage" }, el("h2", { "data-drawn": true }, name),
    el("p", { class: "figures", "data-drawn": true },
      `${shown(bitsOf(whole))} bits${length} · ${shown(line.bits_per_character)} per character`
      + ` · ${shown(line.bits_per_byte)} per byte`), cells.element);
}

/** Which of two texts is more probable, and by how much; nothing where there is one. */
function comparison(lines) {
  const nats = lines.map((line) => line.nats_with_length ?? line.nats);
  if (lines.length < 2 || nats.includes(null)) return "";
  const bits = bitsOf(nats[1] - nats[0]);
  if (bits === 0) return "Both are equally probable. ";
  return `${bits > 0 ? "A" : "B"} is more probable by ${shown(Math.abs(bits))} bits. `;
}

function asText(line) {
  const tokens = (line.tokens ?? []).map(({ token, nats }) => `${shown(bitsOf(nats), 3)}\t${JSON.stringify(token)}\n`);
  return `${line.text}\n${tokens.join("")}`;
}

function fields(models) {
  return [
    area("A", "Text A", { rows: 4, example: "the king is dead" }),
    area("B", "Text B", { rows: 4, example: "the kign is daed", hint: "may be left empty" }),
    modelChoice(models),
  ];
}
