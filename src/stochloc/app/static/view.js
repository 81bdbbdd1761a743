/** What the tabs of one question have in common: a form, an answer, and their place in the address. */

import { Asking } from "./asking.js";
import { el } from "./dom.js";
import { Form } from "./forms.js";

export class View {
  /**
   * @param {object} about { id, title, path, action, open }
   * @param {object} server { models, limits }
   * @param {Field[]} fields
   * @param {function(boolean)} changed Called when the address has to follow; true for a new entry.
   */
  constructor({ id, title, path, action, open }, server, fields, changed) {
    Object.assign(this, { id, title, changed, hasAsked: false });
    this.form = new Form(server, action, fields,
      { submit: () => this.ask(), change: () => changed(false) }, open);
    this.asking = new Asking(path, (answer) => {
      this.result.hidden = false;
      return this.show(answer);
    });
    this.form.stop.addEventListener("click", () => this.stop());
    this.result = el("section", { class: "result", "aria-label": `${title}: result`, hidden: true });
    this.element = el("div", {}, this.form.element, this.asking.problem.element, this.result);
  }

  /** The request of the form. */
  body() {
    return this.form.body();
  }

  values() {
    return { ...(this.hasAsked ? this.asked : this.form.values()), go: this.hasAsked ? 1 : "" };
  }

  restore({ go = "", ...values }) {
    this.stop();
    this.form.restore(values);
    this.result.hidden = true;
    this.hasAsked = go !== "";
    if (this.hasAsked) this.#ask();
  }

  ask() {
    if (!this.form.isValid()) return;
    this.hasAsked = true;
    this.#ask();
    this.changed(true);
  }

  /** Ask, and keep for the address what was asked for: the form may be changed beside the answer. */
  #ask() {
    this.asked = this.form.values();
    this.asking.ask(this.form, this.body());
  }

  stop() {
    this.asking.stop(this.form);
  }
}
