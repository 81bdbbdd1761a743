/**
 * Forms: fields that know their control, its text for the address, and their part of a request.
 *
 * A field is { name, element, fit(model, limits), relate(values), text(), write(text), value() }; its
 * value is undefined where the request shall leave it out, and the server then decides.
 */

import { el } from "./dom.js";

let count = 0;
const isWide = () => matchMedia("(min-width: 48rem)").matches;

/** What all kinds of fields share: a label, a hint, a control and its first text. */
class Field {
  constructor(name, label, control, { hint = "", first = "", wide = false, when, hides = false, of, group = "" } = {}) {
    Object.assign(this, { name, control, first, when, hides, of, group });
    control.id = `field-${(count += 1)}`;
    control.name = name;
    const hints = hint ? el("small", { id: `${control.id}-hint` }, hint) : null;
    if (hints) control.setAttribute("aria-describedby", hints.id);
    const label_ = el("label", { for: control.id }, label);
    this.element = el("div", { class: wide ? "field wide" : "field" }, label_, control, hints);
    this.write(first);
  }

  fit() {}

  /** Grey out, or hide, what has no effect beside the other values. */
  relate(values) {
    if (!this.when) return;
    this.control.disabled = !this.when(values);
    if (this.hides) this.element.hidden = this.control.disabled;
  }

  text() {
    return this.control.value;
  }

  write(text) {
    this.control.value = text;
  }

  value() {
    return this.control.disabled || this.text() === "" ? undefined : this.text();
  }
}

class NumberField extends Field {
  constructor(name, label, { min, max, step = 1, limit, settings }) {
    super(name, label, el("input", { type: "number", min, max, step, inputmode: "decimal" }), settings);
    this.limit = limit;
  }

  fit(model, limits) {
    const most = this.limit?.(model, limits);
    if (most !== undefined) this.control.max = most;
  }

  value() {
    return super.value() === undefined ? undefined : Number(this.text());
  }
}

class ChoiceField extends Field {
  constructor(name, label, options, settings) {
    super(name, label, el("select"), settings);
    this.options = options;
    this.control.addEventListener("input", () => { this.wanted = this.text(); });
  }

  /** Offer what the model offers; what was chosen stays where it still can be. */
  fit(model) {
    const options = this.options(model).map((option) => [option].flat());
    const key = JSON.stringify(options);
    if (key === this.offered) return;
    this.offered = key;
    this.control.replaceChildren(
      ...options.map(([value, name = value]) => el("option", { value }, name)));
    this.element.hidden = options.length < 2;
    this.write(this.wanted);
  }

  write(text) {
    this.wanted = text;
    const values = [...this.control.options].map((option) => option.value);
    this.control.value = values.includes(text) ? text : (values[0] ?? "");
  }
}

class ListField extends Field {
  value() {
    const words = this.text().split(/\s+/).filter(Boolean);
    return words.length ? words : undefined;
  }
}

/** A text of several lines. */
export const area = (name, label, settings = {}) =>
  new Field(name, label, el("textarea", {
    rows: settings.rows ?? 3, spellcheck: "false", autocapitalize: "off", placeholder: settings.example,
  }), { wide: true, ...settings });

/** A number; `limit(model, limits)` gives the server's limit of it. */
export const number = (name, label, { min = 0, max, step, limit, ...settings } = {}) =>
  new NumberField(name, label, { min, max, step, limit, settings });

/** One of a model's options: `options(model)` gives texts, or pairs of value and name. */
export const choice = (name, label, options, settings = {}) =>
  new ChoiceField(name, label, options, settings);

/** Several words, apart by blanks. */
export const words = (name, label, settings = {}) =>
  new ListField(name, label, el("input", {
    type: "text", spellcheck: "false", autocapitalize: "off", placeholder: settings.example,
  }), settings);

/** The models of the server, one of which a request is about. */
export const modelChoice = (models, name = "model", settings = {}) =>
  choice(name, "Model", () => models.map((model) => model.name), settings);

/** Fields in a grid, those of a group in a frame of their own. */
function grouped(fields) {
  return [...new Set(fields.map((field) => field.group))].map((group) => {
    const inside = fields.filter((field) => field.group === group).map((field) => field.element);
    const grid = el("div", { class: "fields" }, ...inside);
    return group ? el("fieldset", {}, el("legend", {}, group), grid) : grid;
  });
}

/** Fields of a task, and the button that starts it. */
export class Form {
  /**
   * @param {object} server { models, limits }
   * @param {string} action What the button says.
   * @param {Field[]} fields
   * @param {{ submit: function(), change: function() }} listeners
   * @param {number} open How many fields stand outside the fold of settings.
   */
  constructor(server, action, fields, listeners, open = 2) {
    Object.assign(this, { server, fields });
    this.stop = el("button", { type: "button", hidden: true, class: "plain" }, "Stop");
    const settings = el("details", { class: "settings", open: isWide() },
      el("summary", {}, "Settings"),
      el("div", { class: "groups" }, ...grouped(fields.slice(open))));
    this.element = el("form", {
      on: {
        submit: (event) => { event.preventDefault(); listeners.submit(); },
        input: () => { this.refit(); listeners.change(); },
      },
    },
    el("div", { class: "fields" }, ...fields.slice(0, open).map((field) => field.element)),
    fields.length > open ? settings : null,
    el("div", { class: "actions" }, el("button", { type: "submit" }, action), this.stop));
    this.refit();
  }

  /** The model that is chosen by a field. */
  model(name = "model") {
    const chosen = this.fields.find((field) => field.name === name)?.text();
    return this.server.models.find((model) => model.name === chosen) ?? this.server.models[0];
  }

  /** Fit every field to the chosen model and to the other fields. */
  refit() {
    for (const field of this.fields) field.fit(this.model(field.of), this.server.limits ?? {});
    const values = this.texts();
    for (const field of this.fields) field.relate(values);
  }

  texts() {
    return Object.fromEntries(this.fields.map((field) => [field.name, field.text()]));
  }

  /** The texts that differ from those the page begins with: what an address must say. */
  values() {
    const first = (field) => (field instanceof ChoiceField && field.first === ""
      ? (field.control.options[0]?.value ?? "") : field.first);
    const told = this.fields.filter((field) => field.text() !== first(field));
    return Object.fromEntries(told.map((field) => [field.name, field.text()]));
  }

  restore(values) {
    for (const field of this.fields) field.write(values[field.name] ?? field.first);
    this.refit();
  }

  /** The request: all fields that have a value. */
  body() {
    const pairs = this.fields.map((field) => [field.name, field.value()]);
    return Object.fromEntries(pairs.filter(([, value]) => value !== undefined));
  }

  isValid() {
    return this.element.reportValidity();
  }

  busy(isBusy) {
    this.stop.hidden = !isBusy;
    this.element.setAttribute("aria-busy", String(isBusy));
  }
}
