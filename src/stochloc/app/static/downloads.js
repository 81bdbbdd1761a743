/** What is on the page as a file (text, JSON, PNG) and its address as a link. */

import { button, el, tell } from "./dom.js";

/**
 * Buttons for sharing.
 *
 * @param {string} name Of the files, without an ending.
 * @param {function(): string} text
 * @param {function(): object} json
 * @param {function(): HTMLElement} picture The element whose cells are drawn.
 */
export function sharing(name, text, json, picture) {
  return el("div", { class: "sharing", role: "group", "aria-label": "Share" },
    button("Copy link", () => copy(location.href, "The address was copied.")),
    button("Text", () => save(`${name}.txt`, "text/plain", text()), { "aria-label": "Download as text" }),
    button("JSON", () => save(`${name}.json`, "application/json", `${JSON.stringify(json(), null, 2)}\n`),
      { "aria-label": "Download as JSON" }),
    button("PNG", async () => saveBlob(`${name}.png`, await drawn(picture())),
      { "aria-label": "Download as a picture" }));
}

/** Put a text on the clipboard; pages without a secure address may not, and say so. */
export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    tell(done);
  } catch {
    tell("The browser does not let this page copy; copy it from the address bar or the text by hand.");
  }
}

function save(name, type, content) {
  saveBlob(name, new Blob([content], { type }));
}

function saveBlob(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const MARGIN = 12;

/** All cells of an element as a picture, at the places and in the colours they have on the screen. */
async function drawn(element) {
  const box = element.getBoundingClientRect();
  const scale = Math.max(2, devicePixelRatio);
  const canvas = el("canvas", {
    width: Math.ceil((box.width + 2 * MARGIN) * scale), height: Math.ceil((box.height + 2 * MARGIN) * scale),
  });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.fillStyle = getComputedStyle(document.body).backgroundColor;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.translate(MARGIN - box.left, MARGIN - box.top);
  for (const cell of element.querySelectorAll(".cell")) drawCell(pen, cell);
  for (const words of element.querySelectorAll("[data-drawn]")) drawWords(pen, words);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

function drawCell(pen, cell) {
  const { left, top, width, height } = cell.getBoundingClientRect();
  const style = getComputedStyle(cell);
  pen.fillStyle = style.backgroundColor;
  pen.beginPath();
  pen.roundRect(left, top, width, height, Number.parseFloat(style.borderRadius) || 0);
  pen.fill();
  const ring = style.getPropertyValue("--ring");
  if (ring) drawRing(pen, ring, cell.matches(".given"), { left, top, width, height });
  for (const part of cell.children) {
    const at = part.getBoundingClientRect();
    const how = getComputedStyle(part);
    pen.globalAlpha = Number(how.opacity);
    if (part.matches(".bar")) {
      pen.fillStyle = how.backgroundColor;
      pen.fillRect(at.left, at.top, at.width, at.height);
    } else if (part.textContent) {
      write(pen, part.textContent, how, at.left + at.width / 2, at.top + at.height / 2, "center");
    }
    pen.globalAlpha = 1;
  }
}

/** The mark of a cell that was given (its foot alone), fixed, or changed. */
function drawRing(pen, colour, isFoot, { left, top, width, height }) {
  pen.strokeStyle = colour;
  pen.lineWidth = 3;
  pen.beginPath();
  if (isFoot) {
    pen.moveTo(left, top + height - 1.5);
    pen.lineTo(left + width, top + height - 1.5);
  } else pen.roundRect(left + 1.5, top + 1.5, width - 3, height - 3, 2);
  pen.stroke();
}

function drawWords(pen, element) {
  const at = element.getBoundingClientRect();
  write(pen, element.textContent, getComputedStyle(element), at.left, at.top + at.height / 2, "left");
}

function write(pen, text, style, x, y, align) {
  // The shorthand of the whole is empty where it cannot say everything, as of figures of equal width.
  const font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  Object.assign(pen, { fillStyle: style.color, font, textAlign: align, textBaseline: "middle" });
  pen.fillText(text, x, y);
}
