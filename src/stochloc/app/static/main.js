/** Begin: ask which models there are, build the tabs, and follow the address. */

import * as address from "./address.js";
import { models } from "./api.js";
import { CompareView } from "./compare.js";
import { button, el, Problem, tell } from "./dom.js";
import { FillView } from "./fill.js";
import { RepairView } from "./repair.js";
import { ScoreView } from "./score.js";
import { WalkView } from "./walk.js";

const KINDS = [WalkView, CompareView, FillView, RepairView, ScoreView];

/** Tabs as the ARIA practices describe them: arrows move, and a tab that has the focus is shown. */
class Tabs {
  constructor(views, chosen) {
    Object.assign(this, { views, chosen });
    this.buttons = views.map((view) => button(view.title, () => this.show(view.id, true), {
      role: "tab", id: `tab-${view.id}`, "aria-controls": `panel-${view.id}`,
    }));
    this.panels = views.map((view) => el("div", {
      role: "tabpanel", id: `panel-${view.id}`, "aria-labelledby": `tab-${view.id}`, hidden: true,
    }, view.element));
    const list = document.getElementById("tabs");
    list.append(...this.buttons);
    list.addEventListener("keydown", (event) => this.#key(event));
    document.getElementById("panels").replaceChildren(...this.panels);
  }

  get view() {
    return this.views.find((view) => view.id === this.shown);
  }

  show(id, byHand = false) {
    this.shown = id;
    this.views.forEach((view, n) => {
      const isShown = view.id === id;
      this.panels[n].hidden = !isShown;
      this.buttons[n].setAttribute("aria-selected", String(isShown));
      this.buttons[n].tabIndex = isShown ? 0 : -1;
    });
    document.title = `${this.view.title} · stochloc`;
    if (byHand) this.chosen();
  }

  #key(event) {
    const at = this.buttons.indexOf(document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: -1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const next = this.buttons.at(to % this.buttons.length);
    next.focus();
    next.click();
  }
}

function follow(tabs) {
  address.settle();
  const { tab, values } = address.read();
  const view = tabs.views.find(({ id }) => id === tab) ?? tabs.views[0];
  // A walk that nobody looks at any more shall not go on.
  for (const other of tabs.views) if (other !== view) other.stop();
  tabs.show(view.id);
  if (address.written(view.id, view.values()) !== location.hash) view.restore(values);
}

async function begin() {
  const server = await models();
  let tabs = null;
  const write = (view, isNew) => {
    if (tabs?.view === view) address.write(view.id, view.values(), isNew);
  };
  const views = KINDS.map((Kind) => {
    const view = new Kind(server, (isNew) => write(view, isNew));
    return view;
  });
  tabs = new Tabs(views, () => address.write(tabs.shown, tabs.view.values(), true));
  follow(tabs);
  addEventListener("popstate", () => follow(tabs));
  const skip = document.querySelector(".skip");
  skip.addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("panels").focus();
  });
  // Where there are several, each form says which.
  if (server.models.length === 1) document.getElementById("models").textContent = server.models[0].name;
  document.body.dataset.ready = "true";
  performance.mark("ready");
}

begin().catch((error) => {
  const problem = new Problem();
  document.getElementById("panels").replaceChildren(problem.element);
  problem.show(error);
  tell("");
});
