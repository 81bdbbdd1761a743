/** The menu of a token: fix it to one of the likeliest or to another, blank it, or lower its SNR. */

import { beneath, hideDetails, sign } from "./cells.js";
import { button, el } from "./dom.js";
import { shown } from "./scales.js";

/**
 * Open the menu of a cell.
 *
 * @param {HTMLElement} cell The element that was pressed.
 * @param {{ place: number, text: string, top: Array<[string, number]>, snr: number|null }} about
 * @param {function(object)} choose Called with the edit, without its step.
 */
export function openMenu(cell, about, choose) {
  hideDetails({ target: cell });
  const title = el("p", { id: "menu-title", class: "menu-title" }, `Place ${about.place + 1}: `,
    el("b", { dir: "auto" }, sign(about.text)));
  const menu = el("div", { class: "menu", role: "dialog", "aria-labelledby": "menu-title" }, title);
  const close = (mayFocus = true) => {
    document.removeEventListener("pointerdown", outside, true);
    menu.removeEventListener("focusout", left);
    menu.remove();
    if (mayFocus && cell.isConnected) cell.focus();
  };
  const outside = (event) => {
    if (!menu.contains(event.target)) close(false);
  };
  const left = (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) close(false);
  };
  const act = (edit) => {
    close();
    choose({ place: about.place, ...edit });
  };
  menu.append(fixing(about, act), ...lowering(about, act), button("Close", () => close(), { class: "plain" }));
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    event.stopPropagation();
  });
  menu.addEventListener("focusout", left);
  document.body.append(menu);
  document.addEventListener("pointerdown", outside, true);
  beneath(menu, cell);
  menu.querySelector("button, input").focus();
}

function fixing(about, act) {
  const likely = about.top.map(([token, p]) => button("", () => act({ do: "fix", token }), {
    class: "likely", "aria-label": `Fix to ${token === " " ? "space" : token}, probability ${shown(p)}`,
  }));
  likely.forEach((choice, n) => choice.append(
    el("b", { dir: "auto" }, sign(about.top[n][0])), el("span", { class: "number" }, shown(about.top[n][1]))));
  const typed = el("input", { type: "text", "aria-label": "Another token", size: 6, required: true,
    autocapitalize: "off", spellcheck: "false" });
  return el("form", {
    on: { submit: (event) => { event.preventDefault(); act({ do: "fix", token: typed.value }); } },
  }, el("p", { class: "aside" }, "Fix to"), el("div", { class: "row" }, ...likely),
  el("div", { class: "row" }, typed, el("button", { type: "submit" }, "Fix")));
}

function lowering(about, act) {
  const isBlank = about.snr === 0;
  const half = about.snr === null ? 2 : about.snr / 2;
  const snr = el("input", { type: "number", min: 0, max: about.snr, step: "any", required: true,
    value: Number(half.toPrecision(3)), "aria-label": "Lower SNR" });
  const lower = el("form", {
    hidden: isBlank,
    on: { submit: (event) => { event.preventDefault(); act({ do: "lower", snr: Number(snr.value) }); } },
  }, el("div", { class: "row" }, el("span", {}, "SNR"), snr, el("button", { type: "submit" }, "Lower")));
  return [lower, button("Blank", () => act({ do: "blank" }), { disabled: isBlank })];
}
