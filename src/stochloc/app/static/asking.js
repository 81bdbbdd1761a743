/** One question to the server at a time: a form that asks, an answer, or the sentence of an error. */

import { ask, stream } from "./api.js";
import { Problem, tell } from "./dom.js";

export class Asking {
  /**
   * @param {string} path Of the HTTP interface.
   * @param {function(object): string} show Called with the answer; returns a sentence about it.
   */
  constructor(path, show) {
    Object.assign(this, { path, show, problem: new Problem(), answer: null, request: null });
    /** Called with every event that comes before the answer; where it is set, answers are streamed. */
    this.early = null;
  }

  /** Ask; an earlier question that is still open is given up. */
  async ask(form, body) {
    this.stop(form);
    const control = new AbortController();
    this.control = control;
    this.problem.clear();
    form.busy(true);
    tell("The model computes.");
    try {
      const answer = await (this.early ? this.#streamed(body, control) : ask(this.path, body, control.signal));
      if (control.signal.aborted) return;
      Object.assign(this, { answer, request: body });
      tell(this.show(answer));
    } catch (error) {
      if (control.signal.aborted) return;
      tell("");
      this.problem.show(error);
    }
    form.busy(false);
  }

  async #streamed(body, control) {
    for await (const [event, data] of stream(this.path, body, control.signal)) {
      if (control.signal.aborted) break;
      if (event === "error") throw new Error(data.detail);
      if (event === "done") return data;
      this.early(event, data);
    }
    throw new Error("The connection to the server was lost.");
  }

  stop(form) {
    this.control?.abort();
    form.busy(false);
  }
}
