/**
 * Elements from names, attributes and children.
 *
 * A string among the children becomes a text node: what a model writes is text, never HTML. Nothing
 * on this page assigns innerHTML.
 */

/**
 * @param {string} tag
 * @param {object} attributes `on` maps events to listeners, `data` fills the data set; true is an
 *   attribute without a value, and null, undefined and false leave one out.
 * @param {...(Node|string|null)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, data = {}, ...rest } = attributes;
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(rest)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** A button with a text, and a listener for presses. */
export function button(text, press, attributes = {}) {
  return el("button", { type: "button", on: { click: press }, ...attributes }, text);
}

/** Tell those who do not see the page what has happened. */
export function tell(sentence) {
  document.getElementById("status").textContent = sentence;
}

/** A place for the sentence of an error; empty and hidden until there is one. */
export class Problem {
  constructor() {
    this.element = el("p", { class: "problem", role: "alert", hidden: true });
  }

  show(error) {
    this.element.textContent = error.message;
    this.element.hidden = false;
  }

  clear() {
    this.element.textContent = "";
    this.element.hidden = true;
  }
}
