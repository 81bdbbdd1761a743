/** The tab that shades doubtful characters and proposes changes, each to be accepted or refused. */

import { Cells, sign, spoken } from "./cells.js";
import { button, el } from "./dom.js";
import { copy, sharing } from "./downloads.js";
import { area, choice, modelChoice, number } from "./forms.js";
import { bitsOfProbability, counted, DOUBT, shown } from "./scales.js";
import { View } from "./view.js";

const WAYS = [["", "automatic"], ["edits", "single edits"], ["one_pass", "one pass"], ["walk", "walk"]];

export class RepairView extends View {
  refused = new Set();

  constructor(server, changed) {
    super({ id: "repair", title: "Repair", path: "/api/correct", action: "Repair" }, server,
      fields(server.models), changed);
    // What is doubtful is known long before what to do about it.
    this.asking.early = (event, { places }) => {
      if (event !== "places") return;
      this.result.hidden = false;
      this.show({ places, read: places.map(({ text }) => text).join(""), changes: [] });
    };
    this.cells = new Cells("The text as read, shaded by doubt", (place) => this.#toggleAt(place));
    this.output = el("output", { class: "text", "aria-label": "The repaired text" });
    this.list = el("ul", { class: "changes" });
    this.summary = el("p", { class: "figures" });
    const share = sharing("stochloc-repair", () => `${this.text()}\n`, () => this.#record(),
      () => this.cells.element);
    this.result.append(this.summary, this.cells.element, DOUBT.legend(), el("h2", {}, "Changes"),
      el("div", { class: "row" }, button("Accept all", () => this.#set([])),
        button("Refuse all", () => this.#set(this.changes.keys()))), this.list,
      el("h2", {}, "Repaired"), this.output,
      el("div", { class: "row" }, button("Copy text", () => copy(this.text(), "The text was copied."))), share);
  }

  body() {
    const { way, ...body } = this.form.body();
    return way ? { ...body, [way]: true } : body;
  }

  values() {
    return { ...super.values(), refused: [...this.refused].sort((a, b) => a - b).join(",") };
  }

  restore({ refused = "", ...values }) {
    this.refused = new Set(refused.split(",").filter(Boolean).map(Number));
    super.restore(values);
  }

  ask() {
    this.refused.clear();
    super.ask();
  }

  show({ read, places, changes: single, denoiser_calls: calls }) {
    const changes = joined(single);
    Object.assign(this, { read, places, changes });
    const number = `${counted(changes.length, "change")} proposed`;
    this.summary.textContent = calls === undefined
      ? "Looking for changes…" : `${number} · ${counted(calls, "call")}`;
    this.list.replaceChildren(...changes.map((change, n) => this.#item(change, n)));
    this.#draw();
    return `${number}.`;
  }

  /** The text with the accepted changes. */
  text() {
    return repaired(this.read, this.#accepted());
  }

  #record() {
    const { read, places, asking } = this;
    return { read, places, ...asking.answer, accepted: this.#accepted(), result: this.text() };
  }

  #accepted() {
    return this.changes.filter((_, n) => !this.refused.has(n)).flat();
  }

  #set(refused) {
    this.refused = new Set(refused);
    this.#draw();
    this.changed(false);
  }

  #item(change, n) {
    const [{ position, probability }] = change;
    const tick = el("input", { type: "checkbox", on: { change: () => this.#toggle(n) } });
    return el("li", {}, el("label", {}, tick, `place ${position + 1}: ${described(change)}, `,
      `probability ${shown(probability, 3)}`));
  }

  #toggle(n) {
    const refused = new Set(this.refused);
    if (!refused.delete(n)) refused.add(n);
    this.#set(refused);
  }

  #toggleAt(place) {
    const n = this.#changeOf(place);
    if (n >= 0) this.#toggle(n);
  }

  /** Whether a change of one character begins within a token; what is inserted at the end, in the last. */
  #isWithin({ position }, place) {
    const next = this.places[place + 1]?.position ?? Infinity;
    return position >= this.places[place].position && position < next;
  }

  /** The first change of a token. */
  #changeOf(place) {
    return this.changes.findIndex((change) => change.some((one) => this.#isWithin(one, place)));
  }

  #draw() {
    [...this.list.children].forEach((item, n) => {
      item.querySelector("input").checked = !this.refused.has(n);
    });
    this.cells.show(this.places.map((place, n) => this.#cell(place, n)));
    this.output.textContent = this.text();
  }

  #cell({ text, probability: p, likely }, place) {
    const n = this.#changeOf(place);
    const bits = p === null ? null : bitsOfProbability(p);
    const doubt = p === null ? "unknown to the model" : `probability ${shown(p, 3)}, ${shown(bits)} bits`;
    const cell = { text, top: likely ?? [], shade: DOUBT.shade(bits), says: `${spoken(text)}, ${doubt}` };
    if (n < 0) return cell;
    const change = this.changes[n];
    const verdict = this.refused.has(n) ? "refused" : "accepted";
    const below = change.filter((one) => this.#isWithin(one, place)).map(({ from, to }) =>
      (from === "" ? `+${sign(to)}` : (to === "" ? "×" : sign(to))));
    return { ...cell, marks: ["change", verdict], below: below.join(""),
      says: `${cell.says}; ${described(change)}, ${verdict}` };
  }
}

/** Apply changes to a text: positions are those of its characters, not of UTF-16 units. */
function repaired(read, changes) {
  const characters = [...read];
  const before = new Map();
  const at = new Map();
  for (const { position, from, to } of changes) {
    if (from === "") before.set(position, (before.get(position) ?? "") + to);
    else at.set(position, { length: [...from].length, to });
  }
  let text = "";
  for (let n = 0; n <= characters.length; n += 1) {
    text += before.get(n) ?? "";
    const change = at.get(n);
    if (change) {
      text += change.to;
      n += change.length - 1;
    } else if (n < characters.length) text += characters[n];
  }
  return text;
}

/**
 * Changes that are one decision: two neighbours that change places have the same probability.
 *
 * @returns {object[][]} Each the changes of single characters, from left to right.
 */
function joined(changes) {
  const groups = [];
  for (const change of changes) {
    const last = groups.at(-1)?.at(-1);
    const isSame = last && change.probability === last.probability
      && change.position === last.position + [...last.from].length;
    if (isSame) groups.at(-1).push(change);
    else groups.push([change]);
  }
  return groups;
}

function described(change) {
  const [from, to] = ["from", "to"].map((side) => change.map((one) => one[side]).join(""));
  if (from === "") return `insert ${spoken(to)}`;
  return to === "" ? `leave out ${spoken(from)}` : `${spoken(from)} → ${spoken(to)}`;
}

function fields(models) {
  return [
    area("text", "Text", { rows: 4, example: "teh quikc brwn fox" }),
    modelChoice(models),
    choice("way", "Way", () => WAYS, { hint: "as the model allows when automatic" }),
    number("snr", "SNR of the soft mask", { step: "any", hint: "the cost of a change in nats; automatic when empty" }),
    number("threshold", "Threshold", { max: 1, step: "any", hint: "a change must be this probable" }),
  ];
}
