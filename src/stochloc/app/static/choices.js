/** The fields that several tabs have: how to walk, and with which seed. */

import { choice, number } from "./forms.js";

const followsPath = (policy) => (values) => (values[policy] || "path") === "path";
/** Policies that take a value after a colon. */
const VALUED = /^(threshold|share|tolerance|curvature|remdm)/;

/** The number after the colon of a policy; it is sent as part of the policy, not by itself. */
function policyValue(name, policy, settings) {
  const when = (values) => VALUED.test(values[policy] ?? "");
  const field = number(name, "Policy's value",
    { step: "any", when, hides: true, hint: "its own when empty", ...settings });
  field.value = () => undefined;
  return field;
}

/**
 * Path, policy and transition of a walk.
 *
 * @param {object} settings `of` names the field of the model, `group` the frame they stand in, and
 *   `ending` is put behind each name.
 */
export function walkChoices({ of = "model", group = "", ending = "" } = {}) {
  const policy = `policy${ending}`;
  const settings = { of, group };
  return [
    choice(`path${ending}`, "Path", (model) => [["", "automatic"], ...model.paths],
      { ...settings, when: followsPath(policy), hint: "which tokens rise when" }),
    choice(policy, "Policy", (model) => model.policies, { ...settings, hint: "decides during the walk" }),
    policyValue(`value${ending}`, policy, settings),
    choice(`transition${ending}`, "Transition", (model) => model.transitions, settings),
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
export const steps = () => number("steps", "Steps",
  { min: 1, limit: (model, { steps: most }) => most, hint: "automatic when empty" });
export const length = () => number("length", "Length",
  { min: 1, limit: (model) => model.longest, hint: "tokens; as in training when empty" });
