/** The fields that several tabs have: how to walk, and with which seed. */

import { choice, number } from "./forms.js";

const followsPath = (policy) => (values) => (values[policy] || "path") === "path";
/** Policies that take a value after a colon. */
const VALUED = /^(threshold|share|tolerance|curvature|remdm)/;

/** The number after the colon of a policy; it is sent as part of the policy, not by itself. */
function policyValue(name, label, policy, of) {
  const field = number(name, label,
    { step: "any", of, when: (values) => VALUED.test(values[policy] ?? ""), hint: "its own when empty" });
  field.value = () => undefined;
  return field;
}

/**
 * Path, policy and transition of a walk.
 *
 * @param {object} settings `of` names the field of the model; `ending` is put behind each name, and
 *   `named` behind each label.
 */
export function walkChoices({ of = "model", ending = "", named = "" } = {}) {
  const policy = `policy${ending}`;
  return [
    choice(`path${ending}`, `Path${named}`, (model) => [["", "automatic"], ...model.paths],
      { of, when: followsPath(policy), hint: "which tokens rise when" }),
    choice(policy, `Policy${named}`, (model) => model.policies, { of, hint: "decides during the walk" }),
    policyValue(`value${ending}`, `Policy's value${named}`, policy, of),
    choice(`transition${ending}`, `Transition${named}`, (model) => model.transitions, { of }),
  ];
}

/** A request without the endings of names, its policy with its value: what the server takes. */
export function walkBody(form, ending = "") {
  const told = Object.entries(form.body());
  const own = ending ? told.filter(([name]) => name.endsWith(ending)) : [];
  const shared = told.filter(([name]) => !/[AB]$/.test(name));
  const body = Object.fromEntries([...shared, ...own.map(([name, setting]) => [name.slice(0, -1), setting])]);
  const value = form.texts()[`value${ending}`];
  if (body.policy && value && VALUED.test(body.policy)) body.policy += `:${value}`;
  return body;
}

export const seed = () => number("seed", "Seed", { first: "0", hint: "the same seed, the same walk" });
export const temperature = () => number("temperature", "Temperature", { first: "1", min: 0.01, step: "any" });
export const steps = () => number("steps", "Steps", { min: 1, limit: "steps", hint: "automatic when empty" });
