/** A walk as the server computes it: every frame is kept, and listeners are told of each. */

import { stream } from "./api.js";
import { bitsOfProbability, shown, SNR } from "./scales.js";
import { spoken } from "./cells.js";

/**
 * Events: "change" after a frame or the end, "end" once, with `problem` set if it failed.
 *
 * frames[n] is the state after n steps, and what the model believes there.
 */
export class Walking extends EventTarget {
  constructor() {
    super();
    this.frames = [];
    this.running = false;
    this.problem = null;
  }

  /** The number of the last step that has come. */
  get last() {
    return this.frames.length - 1;
  }

  /**
   * Ask for a walk.
   *
   * @param {object} body The request, which fixes the walk.
   * @param {number} kept Frames up to this step are those of the walk before, edited then: they stay.
   */
  async start(body, kept = -1) {
    this.stop();
    const control = new AbortController();
    // Time goes on from what was shown, though the server starts from a state that it has kept.
    const earlier = this.frames[kept]?.seconds ?? 0;
    Object.assign(this, { body, control, earlier, running: true, problem: null, done: null });
    this.asked = performance.now();
    this.frames.length = Math.min(this.frames.length, kept + 1);
    // The frame of the step that was edited comes anew, with what the model believes now.
    const request = kept > 0 ? { ...body, after: kept - 1 } : body;
    try {
      for await (const [event, data] of stream("/api/walk", request, control.signal)) {
        if (control.signal.aborted) return;
        this.#take(event, data);
        this.dispatchEvent(new CustomEvent("change", { detail: event }));
      }
    } catch (error) {
      if (control.signal.aborted) return;
      this.problem = error;
    }
    this.running = false;
    this.dispatchEvent(new Event("change"));
    this.dispatchEvent(new Event("end"));
  }

  /** Close the connection; the server ends the walk within a step. */
  stop() {
    this.control?.abort();
    this.running = false;
  }

  #take(event, data) {
    if (event === "start") {
      this.steps = data.steps;
      this.given = data.places.map((place) => place.known);
    } else if (event === "frame") {
      // The server's seconds begin when the request has reached it, so this is never too late.
      const computed = this.asked + 1000 * data.seconds;
      this.frames[data.step] = { ...data, seconds: this.earlier + data.seconds, computed };
    }
    else if (event === "done") this.done = data;
    else if (event === "error") throw new Error(data.detail);
  }

  /** Show edits in a frame before the server answers. */
  edit(step, edits) {
    if (this.frames[step]) this.frames[step] = edits.reduce(changed, this.frames[step]);
  }

  /** The cells of a step. */
  cells(step) {
    const frame = this.frames[Math.min(step, this.last)];
    if (!frame) return [];
    const edits = (this.body.edits ?? []).filter((edit) => edit.step <= frame.step);
    const last = new Map(edits.map((edit) => [edit.place, edit.do]));
    const origin = (place) => {
      if (!last.has(place)) return this.given?.[place] ? "given" : "decided";
      return last.get(place) === "fix" ? "fixed" : "decided";
    };
    return frame.tokens.map((text, place) => cellOf(frame, text, place, origin(place)));
  }

  /** The likeliest tokens of a place at a step; of one that is known by then, before it was. */
  likely(step, place) {
    const frames = this.frames.slice(0, step + 1).reverse();
    return frames.find((frame) => !frame.known[place])?.top[place] ?? [];
  }

  /** The request and all that was answered, for a file. */
  record() {
    const frames = this.frames.map(({ computed, ...frame }) => frame);
    return { request: this.body, frames, done: this.done };
  }

  /** The text of a step. */
  text(step) {
    // Tokens that are parts of characters are a text only together.
    if (this.done && step >= this.last) return this.done.text;
    return this.frames[Math.min(step, this.last)]?.tokens.join("") ?? "";
  }
}

function cellOf(frame, text, place, origin) {
  const known = frame.known[place];
  const p = known ? null : frame.p[place];
  const state = known ? origin : `SNR ${shown(frame.snr[place])}`;
  const doubt = p == null ? "" : `, probability ${shown(p)}, ${shown(bitsOfProbability(p), 1)} bits`;
  return {
    text,
    shade: SNR.shade(known ? null : (frame.snr[place] ?? 0)),
    marks: known ? [origin] : [],
    says: `${spoken(text)}, ${state}${doubt}`,
    p,
    top: frame.top[place] ?? [],
  };
}

/** A frame after an edit; what the model says of it is what it said before. */
function changed(frame, edit) {
  const put = (values, value) => values.map((old, place) => (place === edit.place ? value : old));
  if (edit.do === "fix") {
    return { ...frame,
      tokens: put(frame.tokens, edit.token), known: put(frame.known, true), snr: put(frame.snr, null) };
  }
  const snr = edit.do === "blank" ? 0 : edit.snr;
  return { ...frame, known: put(frame.known, false), snr: put(frame.snr, snr) };
}
