/** The tab that fills blanks: ranges, constraints, and answers with the most probable first. */

import { temperature, seed, steps, walkBody, walkChoices } from "./choices.js";
import { button, el } from "./dom.js";
import { copy, sharing } from "./downloads.js";
import { area, modelChoice, number, words } from "./forms.js";
import { Cells, spoken } from "./cells.js";
import { bitsOf, counted, shown } from "./scales.js";
import { View } from "./view.js";

export class FillView extends View {
  constructor(server, changed) {
    super({ id: "fill", title: "Fill", path: "/api/infill", action: "Fill", open: 3 }, server,
      fields(server.models), changed);
  }

  body() {
    return walkBody(this.form);
  }

  show({ answers, ranking, scored, denoiser_calls: calls, remarks = [] }) {
    const list = el("ol", { class: "answers" }, ...answers.map((answer, n) =>
      row(answer, n, this.asking.request.template)));
    const number = counted(answers.length, "answer");
    const asText = () => answers.map(({ text, nats }) => `${shown(bitsOf(nats))}\t${text}\n`).join("");
    const share = sharing("stochloc-fill", asText, () => this.asking.answer, () => list);
    this.result.replaceChildren(el("p", { class: "figures" },
      `${number} · ${counted(calls, "call")}. Bits are those of the ${scored}: ${ranking}.`),
    ...remarks.map((remark) => el("p", { class: "aside" }, remark)), list, share);
    return `${number}.`;
  }
}

function row({ text, blanks, nats, bits_per_character: bits }, n, template) {
  const cells = new Cells(`Answer ${n + 1}`);
  cells.show(pieces(template, blanks, text).map(([letter, blank]) => ({
    text: letter, shade: blank === null ? "plain" : "filled", says: blank === null
      ? spoken(letter) : `${spoken(letter)}, in blank ${blank + 1}`,
  })));
  const figures = `${shown(bitsOf(nats))} bits, ${shown(bits)} per character`;
  return el("li", {}, el("div", { class: "row" }, el("span", { class: "figures", "data-drawn": true }, figures),
    button("Copy", () => copy(text, "The answer was copied."), { class: "plain" })), cells.element);
}

/**
 * The characters of an answer, each with the number of the blank it stands in, or null for given ones.
 *
 * The model may read given text in another form, capitals as small letters; where the template and
 * the answer do not fit together, nothing is marked.
 */
function pieces(template, blanks, text) {
  const parts = template.split(/(\{\{|\}\}|\{\d+(?:-\d+)?\}|_)/);
  const told = [];
  let number = 0;
  for (const part of parts) {
    if (/^(_|\{\d.*)$/.test(part)) {
      told.push(...[...(blanks[number] ?? "")].map((letter) => [letter, number]));
      number += 1;
    } else {
      told.push(...[...(/^(\{\{|\}\})$/.test(part) ? part[0] : part)].map((letter) => [letter, null]));
    }
  }
  const letters = [...text];
  if (letters.length !== told.length) return letters.map((letter) => [letter, null]);
  return letters.map((letter, place) => [letter, told[place][1]]);
}

function fields(models) {
  return [
    area("template", "Text with blanks", { rows: 2, example: "the ____ of the {3-6}",
      hint: "_ is a blank of one token, {3} of three, {2-5} of two to five" }),
    words("constraint", "Constraints", { wide: true, example: "2:aeiou 5:r-y",
      hint: "characters that blanks may hold: aeiou for all, 2:a-e for the second" }),
    modelChoice(models),
    number("n", "Answers", { first: "5", min: 1, limit: (model, limits) => limits.draws }),
    number("draws", "Draws", { first: "32", min: 1, limit: (model, limits) => limits.draws,
      hint: "walks for every combination of lengths" }),
    steps(),
    ...walkChoices(),
    temperature(),
    number("top_p", "Top p", { first: "1", min: 0.01, max: 1, step: "any" }),
    seed(),
  ];
}
