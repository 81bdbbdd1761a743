/** Scales of colour: a number as one of a few shades, which style.css defines for light and dark. */

import { el } from "./dom.js";

/** A scale: the upper ends of its shades; the last shade has none. */
class Scale {
  /**
   * @param {string} name The shades are the classes `name-0`, `name-1`, …
   * @param {string} title What is measured.
   * @param {number[]} ends
   * @param {string[]} labels One for each shade, one more than ends.
   */
  constructor(name, title, ends, labels) {
    Object.assign(this, { name, title, ends, labels });
  }

  /** The class of a value's shade; infinity and null have the last one. */
  shade(value) {
    const found = value == null ? -1 : this.ends.findIndex((end) => value <= end);
    return `${this.name}-${found < 0 ? this.ends.length : found}`;
  }

  /** All shades in a row, with what they stand for. */
  legend() {
    const keys = this.labels.map((label, n) => el("li", { class: `key ${this.name}-${n}` }, label));
    return el("ul", { class: "legend", "aria-label": `Colours: ${this.title}` },
      el("li", { class: "aside" }, this.title), ...keys);
  }
}

/** Known tokens have the SNR null, and infinity is beyond every finite one. */
export const SNR = new Scale("snr", "SNR", [0, 0.5, 1, 2, 4, 8, 16, Number.MAX_VALUE],
  ["0", "≤ ½", "≤ 1", "≤ 2", "≤ 4", "≤ 8", "≤ 16", "> 16", "decided"]);

const ENDS = [0.5, 1, 2, 3, 5, 8];
const LABELS = ["≤ ½", "≤ 1", "≤ 2", "≤ 3", "≤ 5", "≤ 8", "> 8"];
export const BITS = new Scale("bits", "bits of a token", ENDS, LABELS);
export const DOUBT = new Scale("bits", "bits of a token given all others", ENDS, LABELS);

/** Nats as bits. */
export const bitsOf = (nats) => nats / Math.LN2;

/** A probability as bits. */
export const bitsOfProbability = (p) => (p > 0 ? -Math.log2(p) : Infinity);

/** A number of things, which are in the plural unless there is one. */
export const counted = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

/** A number with few digits, for people; a dash where there is none. */
export function shown(value, digits = 2) {
  if (value == null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return value.toFixed(digits).replace("-", "−");
}
