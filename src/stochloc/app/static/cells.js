/**
 * Tokens as a row of cells that wraps: a letter, a shade, a bar for its probability, details on hover
 * and focus. One stop of the Tab key; arrows move among the cells.
 */

import { el } from "./dom.js";
import { shown } from "./scales.js";

const SIGNS = new Map([[" ", "␣"], ["\n", "↵"], ["\t", "⇥"], ["\r", "␍"], ["", "·"]]);
const NAMES = new Map([[" ", "space"], ["\n", "line break"], ["\t", "tab"], ["", "nothing yet"]]);

/** A token as it is drawn: blanks and control characters by a sign. */
export function sign(text) {
  if (SIGNS.has(text)) return SIGNS.get(text);
  return text.replace(/[\u0000-\u0020]/g, (character) =>
    SIGNS.get(character) ?? String.fromCharCode(0x2400 + character.charCodeAt(0)));
}

/** A token as it is read out. */
export const spoken = (text) => NAMES.get(text) ?? text;

/**
 * @typedef {object} Cell
 * @property {string} text
 * @property {string} shade A class of a scale.
 * @property {string} says What a screen reader says of it, and the first line of its details.
 * @property {string[]} [marks] More classes.
 * @property {number} [p] A probability, drawn as a bar.
 * @property {Array<[string, number]>} [top] The likeliest tokens and their probabilities.
 * @property {string} [below] A second, small line in the cell.
 */
export class Cells {
  /**
   * @param {string} label What the cells are, for screen readers.
   * @param {function(number, HTMLElement)} [press] Called with the place of a cell that is pressed.
   */
  constructor(label, press = () => {}) {
    this.cells = [];
    this.drawn = [];
    this.element = el("div", {
      class: "cells",
      role: "group",
      "aria-label": label,
      on: {
        keydown: (event) => this.#key(event),
        click: (event) => this.#at(event, press),
        pointerover: (event) => this.#at(event, (place, cell) => this.#detail(place, cell)),
        pointerout: hideDetails,
        focusin: (event) => this.#at(event, (place, cell) => this.#detail(place, cell)),
        focusout: hideDetails,
      },
    });
  }

  /** Show cells; only what differs from before is drawn anew. */
  show(cells) {
    const { children } = this.element;
    while (children.length > cells.length) this.element.lastChild.remove();
    cells.forEach((cell, place) => {
      const key = JSON.stringify([cell.text, cell.shade, cell.marks, cell.says, cell.below,
        cell.p == null ? null : Math.round(cell.p * 20)]);
      if (children.length > place && this.drawn[place] === key) return;
      this.drawn[place] = key;
      draw(children[place] ?? this.element.appendChild(blank(place)), cell);
    });
    this.drawn.length = cells.length;
    this.cells = cells;
    if (cells.length && !this.element.querySelector('[tabindex="0"]')) children[0].tabIndex = 0;
    const open = this.element.querySelector('[aria-describedby="tooltip"]');
    if (open && !tooltip().hidden) this.#detail([...children].indexOf(open), open);
  }

  focus(place) {
    const cell = this.element.children[place];
    if (!cell) return;
    this.element.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    cell.tabIndex = 0;
    cell.focus();
  }

  #at(event, act) {
    const cell = event.target.closest(".cell");
    if (cell) act([...this.element.children].indexOf(cell), cell);
  }

  #key(event) {
    const all = [...this.element.children];
    const at = all.indexOf(event.target.closest(".cell"));
    const to = at < 0 ? null : destination(event.key, at, all);
    if (to === null || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.focus(to);
  }

  #detail(place, cell) {
    if (this.cells[place]) showDetails(cell, place, this.cells[place]);
  }
}

/** Where a key leads from a cell; up and down go to the nearest cell of the neighbouring row. */
function destination(key, at, all) {
  switch (key) {
    case "ArrowLeft": return Math.max(0, at - 1);
    case "ArrowRight": return Math.min(all.length - 1, at + 1);
    case "Home": return 0;
    case "End": return all.length - 1;
    case "ArrowUp": return beside(at, all, -1);
    case "ArrowDown": return beside(at, all, 1);
    default: return null;
  }
}

function beside(at, all, way) {
  const { offsetTop: top, offsetLeft: left } = all[at];
  let best = at;
  let row = null;
  for (let n = at + way; n >= 0 && n < all.length; n += way) {
    if (all[n].offsetTop === top) continue;
    row ??= all[n].offsetTop;
    if (all[n].offsetTop !== row) break;
    if (best === at || Math.abs(all[n].offsetLeft - left) < Math.abs(all[best].offsetLeft - left)) best = n;
  }
  return best;
}

const blank = (place) => el("button", { type: "button", class: "cell", tabindex: "-1", data: { place } },
  el("span", { class: "letter", dir: "auto" }), el("span", { class: "below" }), el("i", { class: "bar" }));

function draw(element, cell) {
  const [letter, below, bar] = element.children;
  element.className = ["cell", cell.shade, ...(cell.marks ?? []), /^\s*$/.test(cell.text) ? "faint" : ""]
    .filter(Boolean).join(" ");
  element.setAttribute("aria-label", cell.says);
  letter.textContent = sign(cell.text);
  below.textContent = cell.below ?? "";
  bar.style.width = cell.p == null ? "0" : `${Math.round(cell.p * 20) * 5}%`;
}

const tooltip = () => document.getElementById("tooltip");

/** Show what is known about a cell beside it; an open menu says the same, and would be covered. */
function showDetails(element, place, cell) {
  if (document.querySelector(".menu")) return;
  const box = tooltip();
  const rows = (cell.top ?? []).map(([token, p]) => el("tr", {},
    el("th", { scope: "row", dir: "auto" }, sign(token)),
    el("td", { class: "number" }, shown(p, 3)), el("td", {}, meter(p))));
  box.replaceChildren(el("p", {}, `${place + 1}: ${cell.says}`),
    ...(rows.length ? [el("table", {}, el("tbody", {}, ...rows))] : []));
  box.hidden = false;
  element.setAttribute("aria-describedby", "tooltip");
  beneath(box, element);
}

function meter(p) {
  const bar = el("i", { class: "meter" });
  bar.style.width = `${Math.round(Math.min(1, p) * 100)}%`;
  return el("span", { class: "track" }, bar);
}

/** Hide what is known about a cell. */
export function hideDetails({ target }) {
  target.closest(".cell")?.removeAttribute("aria-describedby");
  tooltip().hidden = true;
}

/** Place a box under an element, or above where there is no room, inside the window. */
export function beneath(box, element) {
  const at = element.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = box;
  const left = Math.min(Math.max(4, at.left + at.width / 2 - width / 2), innerWidth - width - 4);
  const fits = at.bottom + 6 + height <= innerHeight;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${fits ? at.bottom + 6 : Math.max(4, at.top - 6 - height)}px`;
}
