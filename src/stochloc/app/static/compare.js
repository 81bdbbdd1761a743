/** The tab that shows the same prompt on two paths or two models side by side, with the same seed. */

import { length, steps, seed, temperature, walkBody, walkChoices } from "./choices.js";
import { el, Problem, tell } from "./dom.js";
import { sharing } from "./downloads.js";
import { area, Form, modelChoice } from "./forms.js";
import { Player } from "./player.js";
import { counted, shown, SNR } from "./scales.js";
import { Stage } from "./stage.js";
import { Walking } from "./walking.js";

const SIDES = ["A", "B"];

export class CompareView {
  id = "compare";
  title = "Compare";
  hasAsked = false;

  constructor(server, changed) {
    this.changed = changed;
    this.form = new Form(server, "Compare", fields(server.models),
      { submit: () => this.ask(), change: () => changed(false) }, 1);
    this.form.stop.addEventListener("click", () => this.stop());
    this.problem = new Problem();
    this.walks = SIDES.map(() => new Walking());
    this.stages = this.walks.map((walk, n) => new Stage(walk, `Tokens of walk ${SIDES[n]}`));
    this.names = SIDES.map(() => el("h2", { "data-drawn": true }));
    this.player = new Player(this.walks, (step) => this.stages.forEach((stage) => stage.draw(step)),
      () => changed(false));
    this.pair = el("div", { class: "pair" }, ...this.stages.map((stage, n) =>
      el("div", {}, this.names[n], stage.element)));
    const share = sharing("stochloc-compare",
      () => this.walks.map((walk, n) => `${this.names[n].textContent}\n${walk.text(this.player.at)}\n`).join("\n"),
      () => this.walks.map((walk) => walk.record()), () => this.pair);
    this.result = el("section", { class: "result", "aria-label": "The two walks", hidden: true },
      this.player.element, this.pair, SNR.legend(), share);
    this.result.addEventListener("keydown", (event) => this.player.key(event));
    this.element = el("div", {}, this.form.element, this.problem.element, this.result);
    for (const walk of this.walks) walk.addEventListener("end", () => this.#ended(walk));
  }

  values() {
    const at = this.hasAsked ? this.player.stays : "";
    return { ...(this.hasAsked ? this.asked : this.form.values()), at, go: this.hasAsked ? 1 : "" };
  }

  restore({ at = "", go = "", ...values }) {
    this.stop();
    this.form.restore(values);
    this.hasAsked = go !== "";
    this.result.hidden = true;
    if (this.hasAsked) this.#start(at === "" ? null : Number(at));
  }

  ask() {
    if (!this.form.isValid()) return;
    this.hasAsked = true;
    this.#start();
    this.changed(true);
  }

  stop() {
    for (const walk of this.walks) walk.stop();
    this.form.busy(false);
    this.player.halt();
  }

  #start(showAt = null) {
    this.asked = this.form.values();
    this.problem.clear();
    this.form.busy(true);
    this.result.hidden = false;
    this.walks.forEach((walk, n) => {
      const body = walkBody(this.form, SIDES[n]);
      this.names[n].textContent = [SIDES[n], body.model, nameOf(body)].filter(Boolean).join(" · ");
      walk.start(body);
    });
    this.player.begin(0, showAt);
    tell("Two walks begin.");
  }

  #ended(walk) {
    if (walk.problem) this.problem.show(walk.problem);
    if (this.player.running) return;
    this.form.busy(false);
    const told = this.walks.map(({ done }, n) =>
      done && `${SIDES[n]}: ${shown(done.bits, 1)} bits, ${counted(done.calls, "call")}`);
    tell(told.filter(Boolean).join("; "));
    this.changed(false);
  }
}

const nameOf = (body) => ((body.policy ?? "path") === "path" ? (body.path ?? "automatic path") : body.policy);

function fields(models) {
  const side = (ending) => {
    const group = `Walk ${ending}`;
    return [modelChoice(models, `model${ending}`, { group }),
      ...walkChoices({ of: `model${ending}`, group, ending })];
  };
  return [
    area("prompt", "Text", { rows: 2, example: "To be, or not to be",
      hint: "both texts begin with this; blanks, ____, are filled in" }),
    ...side("A"),
    ...side("B"),
    length(),
    steps(),
    temperature(),
    seed(),
  ];
}
