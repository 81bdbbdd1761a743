/**
 * Controls that show the frames of one or several walks: pause, step, back, replay at a speed.
 *
 * While a walk is computed and the speed is "as computed", each frame is shown when it comes.
 */

import { button, el } from "./dom.js";

const SPEEDS = [["live", "as computed"], ["1", "1 step/s"], ["2", "2 steps/s"], ["5", "5 steps/s"],
  ["10", "10 steps/s"], ["25", "25 steps/s"]];

export class Player {
  /**
   * @param {Walking[]} walks Shown at the same step.
   * @param {function(number)} draw Called with the step to be shown.
   * @param {function()} moved Called when the user has chosen a step.
   */
  constructor(walks, draw, moved = () => {}) {
    Object.assign(this, { walks, draw, moved, at: 0, wanted: null, playing: false, timer: 0, frame: 0 });
    this.toggle = button("Pause", () => (this.playing ? this.pause() : this.play()), { class: "wide" });
    this.slider = el("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Step",
      on: { input: () => this.show(Number(this.slider.value), true) } });
    this.speed = el("select", { "aria-label": "Speed", on: { change: () => this.#go() } },
      ...SPEEDS.map(([value, name]) => el("option", { value }, name)));
    this.count = el("span", { class: "count" });
    this.element = el("div", { class: "player", role: "group", "aria-label": "Playback" },
      button("|◂", () => this.show(0, true), { "aria-label": "To the beginning" }),
      button("◂ Back", () => this.step(-1)),
      this.toggle,
      button("Step ▸", () => this.step(1)),
      button("▸|", () => this.show(this.last, true), { "aria-label": "To the last step" }),
      this.slider, this.count,
      el("label", { class: "speed" }, "Speed ", this.speed));
    for (const walk of walks) {
      walk.addEventListener("change", () => this.#go());
      walk.addEventListener("end", () => this.#go());
    }
    this.refresh();
  }

  /**
   * Follow walks that begin, or go on, at a step.
   *
   * @param {number} from
   * @param {number|null} until Stay at this step when it has come; null plays to the end.
   */
  begin(from, until = null) {
    this.#stopClock();
    Object.assign(this, { at: from, wanted: until, playing: until === null });
    this.refresh();
  }

  get last() {
    return Math.max(0, ...this.walks.map((walk) => walk.last));
  }

  /** The step that is looked at, for the address; nothing while playing and at the end. */
  get stays() {
    if (this.wanted !== null) return this.wanted;
    return !this.playing && (this.running || this.at < this.last) ? this.at : "";
  }

  get running() {
    return this.walks.some((walk) => walk.running);
  }

  /** Show a step; by the user's hand, playing ends there. */
  show(step, byHand = false) {
    if (byHand) this.#stopClock();
    this.at = Math.min(Math.max(0, step), this.last);
    this.refresh();
    if (byHand) this.moved();
  }

  step(by) {
    this.show(this.at + by, true);
  }

  /** Play from here; from the beginning where everything has been shown. */
  play() {
    if (this.at >= this.last && !this.running) this.at = 0;
    this.wanted = null;
    this.playing = true;
    this.refresh();
    this.#go();
  }

  pause() {
    this.halt();
    this.moved();
  }

  /** Stop playing without anyone's wish to look at this step. */
  halt() {
    this.#stopClock();
    this.refresh();
  }

  /** Draw the present step at the next frame of the screen, once however often it is asked for. */
  refresh() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.#paint(); });
  }

  /** Keys of the player, for the whole panel that it stands in. */
  key(event) {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { p: () => (this.playing ? this.pause() : this.play()), n: () => this.step(1),
      b: () => this.step(-1) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #stopClock() {
    this.playing = false;
    this.wanted = null;
    clearTimeout(this.timer);
    this.timer = 0;
  }

  #paint() {
    const { at, last } = this;
    const total = Math.max(last, ...this.walks.map((walk) => (walk.running ? walk.steps ?? 0 : 0)));
    this.slider.max = total;
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", `step ${at} of ${total}`);
    this.count.textContent = `${at} / ${total}`;
    this.toggle.textContent = this.playing ? "Pause" : "Play";
    this.draw(at);
    this.#measure(at);
  }

  /** Leave a mark for whoever measures how long a frame took from its computation to the screen. */
  #measure(at) {
    const frame = this.walks[0].frames[at];
    if (!frame || this.marked === frame) return;
    this.marked = frame;
    // A message is delivered after the frame that is being prepared now was handed to the screen.
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => performance.mark("painted",
      { detail: { step: at, delay: performance.now() - frame.computed } });
    port2.postMessage(null);
  }

  /** Go on to the next frame when its time has come. */
  #go() {
    this.refresh();
    if (this.wanted !== null) {
      if (this.last >= this.wanted) [this.at, this.wanted] = [this.wanted, null];
      else this.at = this.last;
    }
    if (!this.playing) return;
    if (this.speed.value === "live" && this.running) {
      clearTimeout(this.timer);
      this.timer = 0;
      this.at = this.last;
      return;
    }
    if (this.timer) return;
    if (this.at >= this.last) {
      if (!this.running) this.pause();
      return;
    }
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.at += 1;
      this.#go();
    }, this.#delay());
  }

  #delay() {
    if (this.speed.value !== "live") return 1000 / Number(this.speed.value);
    const { frames } = this.walks[0];
    const seconds = (frames[this.at + 1]?.seconds ?? 0) - (frames[this.at]?.seconds ?? 0);
    return Math.min(1000, Math.max(15, 1000 * seconds));
  }
}
