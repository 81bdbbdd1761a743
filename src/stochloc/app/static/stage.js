/** Cells that show a walk, and what it has cost so far. */

import { Cells } from "./cells.js";
import { el } from "./dom.js";
import { counted, shown } from "./scales.js";

export class Stage {
  /**
   * @param {Walking} walk
   * @param {string} label For screen readers.
   * @param {function(number, HTMLElement)} [press] Called with the place of a cell that is pressed.
   */
  constructor(walk, label, press) {
    this.walk = walk;
    this.cells = new Cells(label, press);
    this.figures = el("p", { class: "figures", "data-drawn": true });
    this.element = el("div", { class: "stage" }, this.figures, this.cells.element);
  }

  draw(step) {
    this.cells.show(this.walk.cells(step));
    const frame = this.walk.frames[Math.min(step, this.walk.last)];
    this.figures.textContent = frame
      ? [`step ${frame.step}`, `${shown(frame.bits, 1)} bits`, counted(frame.calls, "call"),
        `${shown(frame.seconds)} s`].join(" · ")
      : "";
  }
}
