/** The tab where one watches a walk and steers it. */

import { length, steps, seed, temperature, walkBody, walkChoices } from "./choices.js";
import { spoken } from "./cells.js";
import { button, el, Problem, tell } from "./dom.js";
import { sharing } from "./downloads.js";
import { area, choice, Form, modelChoice, number } from "./forms.js";
import { openMenu } from "./menu.js";
import { Player } from "./player.js";
import { counted, shown, SNR } from "./scales.js";
import { Stage } from "./stage.js";
import { Walking } from "./walking.js";

export class WalkView {
  id = "walk";
  title = "Walk";
  edits = [];
  hasAsked = false;

  /**
   * @param {object} server { models, limits }
   * @param {function(boolean)} changed Called when the address has to follow; true for a new entry.
   */
  constructor(server, changed) {
    this.changed = changed;
    this.form = new Form(server, "Walk", fields(server.models),
      { submit: () => this.ask(), change: () => changed(false) });
    this.form.stop.addEventListener("click", () => this.stop());
    this.problem = new Problem();
    this.walking = new Walking();
    this.stage = new Stage(this.walking, "Tokens of the walk", (place, cell) => this.#press(place, cell));
    this.player = new Player([this.walking], (step) => this.stage.draw(step), () => changed(false));
    this.editList = el("ul", { class: "edits", "aria-label": "Edits", hidden: true });
    const share = sharing("stochloc-walk", () => `${this.walking.text(this.player.at)}\n`,
      () => this.walking.record(),
      () => this.stage.element);
    this.result = el("section", { class: "result", "aria-label": "The walk", hidden: true },
      this.player.element, this.editList, this.stage.element, SNR.legend(), el("p", { class: "aside" },
        "Press a token to steer. Arrows move among tokens; p pauses, n and b go a step on and back."), share);
    this.element = el("div", {}, this.form.element, this.problem.element, this.result);
    this.result.addEventListener("keydown", (event) => this.player.key(event));
    this.walking.addEventListener("end", () => this.#ended());
  }

  values() {
    return {
      ...(this.hasAsked ? this.asked.values : this.form.values()),
      edits: this.edits.length ? JSON.stringify(this.edits) : "",
      at: this.hasAsked ? this.player.stays : "",
      go: this.hasAsked ? 1 : "",
    };
  }

  restore({ edits = "", at = "", go = "", ...values }) {
    this.stop();
    this.form.restore(values);
    this.edits = parseEdits(edits);
    this.hasAsked = go !== "";
    this.result.hidden = true;
    if (!this.hasAsked) return;
    this.#remember();
    this.#start(-1, at === "" ? null : Number(at));
  }

  /** Begin a walk anew. */
  ask() {
    if (!this.form.isValid()) return;
    this.edits = [];
    this.hasAsked = true;
    this.#remember();
    this.#start(-1);
    this.changed(true);
  }

  stop() {
    this.walking.stop();
    this.form.busy(false);
    this.player.halt();
  }

  /** Keep what was asked for: the form may be changed while the walk is looked at and steered. */
  #remember() {
    this.asked = { values: this.form.values(), body: walkBody(this.form) };
  }

  #start(kept, showAt = null) {
    const body = { ...this.asked.body, ...(this.edits.length ? { edits: this.edits } : {}) };
    this.problem.clear();
    this.form.busy(true);
    this.result.hidden = false;
    this.#listEdits();
    this.walking.start(body, kept);
    this.player.begin(Math.max(0, kept), showAt);
    tell(kept < 0 ? "The walk begins." : `The walk goes on from step ${kept}.`);
  }

  #press(place, cell) {
    const step = Math.min(this.player.at, this.walking.last);
    const frame = this.walking.frames[step];
    this.player.pause();
    openMenu(cell, { place, text: frame.tokens[place], top: this.walking.likely(step, place),
      snr: frame.known[place] ? null : frame.snr[place] }, (edit) => this.#edit({ step, ...edit }));
  }

  /** Change a token at a step; what came after it did not happen. */
  #edit(edit) {
    const others = this.edits.filter(({ step, place }) =>
      step < edit.step || (step === edit.step && place !== edit.place));
    this.edits = [...others, edit];
    this.walking.edit(edit.step, [edit]);
    this.#start(edit.step, edit.step);
    this.changed(true);
  }

  #listEdits() {
    this.editList.hidden = this.edits.length === 0;
    this.editList.replaceChildren(...this.edits.map((edit, n) => el("li", {},
      `step ${edit.step}, place ${edit.place + 1}: ${described(edit)}`,
      button("×", () => this.#take(n), { "aria-label": "Take this edit and those after it back", class: "plain" }))));
  }

  /** Take an edit back, and with it the edits that were made in what followed. */
  #take(n) {
    const [{ step }] = this.edits.splice(n);
    this.#start(step - 1, step);
    this.changed(true);
  }

  #ended() {
    this.form.busy(false);
    if (this.walking.problem) this.problem.show(this.walking.problem);
    else if (this.walking.done) {
      const { bits, calls } = this.walking.done;
      tell(`The walk has ended after ${counted(calls, "call")} and ${shown(bits, 1)} bits: ${this.walking.done.text}`);
    }
    this.changed(false);
  }
}

function fields(models) {
  return [
    area("prompt", "Text", { rows: 2, example: "To be, or not to be",
      hint: "the text begins with this; where it has blanks, ____, they are filled in" }),
    modelChoice(models),
    length(),
    steps(),
    ...walkChoices(),
    temperature(),
    seed(),
    choice("corrector", "Corrector", (model) => model.correctors),
    number("rounds", "Corrector rounds", { first: "0", hint: "after every step" }),
    choice("label", "Label", (model) => (model.labels.length ? [["", "any"], ...model.labels] : [])),
  ];
}

function described(edit) {
  if (edit.do === "fix") return `fixed to ${spoken(edit.token)}`;
  return edit.do === "blank" ? "blanked" : `SNR lowered to ${shown(edit.snr)}`;
}

/** Edits from an address, where anything may stand. */
function parseEdits(text) {
  try {
    const edits = JSON.parse(text);
    return Array.isArray(edits) ? edits : [];
  } catch {
    return [];
  }
}
