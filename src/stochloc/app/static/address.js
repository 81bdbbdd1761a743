/**
 * The state of the page in its address: `#walk?prompt=the+king&seed=3`.
 *
 * It stands behind the #, which browsers keep to themselves: what is typed here is in no server's log.
 */

/** The tab of the address and its values, all strings. */
export function read() {
  const [tab, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { tab, values: Object.fromEntries(new URLSearchParams(query)) };
}

/** The hash of a tab with values; empty ones are left out. */
export function written(tab, values) {
  const filled = Object.entries(values).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(filled).toString();
  return `#${tab}${query ? `?${query}` : ""}`;
}

let waiting = 0;

/**
 * Put a state into the address: as a new entry of the history where something was asked for, in
 * place of the present one while typing or stepping. Browsers slow pages down that do the latter at
 * every stroke, so it waits for a pause.
 */
export function write(tab, values, isNew = false) {
  clearTimeout(waiting);
  const hash = written(tab, values);
  if (isNew && hash !== location.hash) history.pushState(null, "", hash);
  else waiting = setTimeout(() => history.replaceState(null, "", hash), 150);
}

/** Drop what waits to be written, before the page follows the address. */
export function settle() {
  clearTimeout(waiting);
}
