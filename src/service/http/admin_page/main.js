// The admin page: shows one view at a time, which only requests what it shows.
//
// The status is requested in every view: rates are differences of its counters, and problems must be visible
// everywhere.

import * as banner from "./banner.js";
import * as bucket from "./bucket.js";
import * as configuration from "./configuration.js";
import * as explain from "./explain.js";
import * as overview from "./overview.js";
import { History } from "./rates.js";
import * as rules from "./rules.js";
import { ApiError, Poller, get } from "./api.js";
import * as top from "./top.js";
import { byId, shown, write } from "./render.js";

/** When to retry after a request without a response, and after one that was rejected. */
const UNAVAILABLE_MS = 2000;
const REJECTED_MS = 5000;

/** How often each view is refreshed; once an hour means practically never. */
const VIEWS = {
  overview: { view: overview, every: 3000 },
  rules: { view: rules, every: 2000 },
  top: { view: top, every: 3000 },
  bucket: { view: bucket, every: 500 },
  explain: { view: explain, every: 3600e3 },
  configuration: { view: configuration, every: 3600e3 },
};

const history = new History();
const links = Array.from(document.querySelectorAll("header nav a"));
let current = null;
let next = 0;

for (const [name, entry] of Object.entries(VIEWS)) {
  entry.poller = new Poller(entry.every, (signal) => loadView(name, signal));
  entry.view.onChoice?.((query) => {
    if (query) {
      location.hash = `${name}?${query}`;
    }
    entry.poller.restart();
  });
}

new Poller(1000, async (signal) => {
  try {
    showStatus(await get("status", {}, signal));
    return undefined;
  } catch (error) {
    if (!signal.aborted) {
      report(error, (message) => banner.showUnavailable(message));
    }
    return UNAVAILABLE_MS;
  }
}).start();

addEventListener("hashchange", () => go("navigated"));
document.querySelector(".skip").addEventListener("click", (event) => {
  // The fragment of the URL names the view, so it cannot be used to jump to an element.
  event.preventDefault();
  byId("content").focus();
});
go("loaded");

function showStatus(status) {
  banner.showStatus(status);
  history.add(status);
  const health = status.healthy ? "healthy" : "not healthy";
  write(byId("who"), `${shown(status.instance, 80)}, version ${shown(status.version)}, ${health}`);
  overview.update(history);
  bucket.setCanChange(status.can_change);
  if (configuration.update(status)) {
    VIEWS.configuration.poller.restart();
  }
}

/** Shows the view that the fragment of the URL names. */
function go(how) {
  const [name, query] = location.hash.slice(1).split(/\?(.*)/s);
  const chosen = Object.hasOwn(VIEWS, name) ? name : "overview";
  const { view, poller } = VIEWS[chosen];
  if (current !== chosen) {
    VIEWS[current]?.poller.stop();
    for (const other of Object.keys(VIEWS)) {
      byId(other).hidden = other !== chosen;
    }
    for (const each of links) {
      if (each.hash === `#${chosen}`) {
        each.setAttribute("aria-current", "page");
      } else {
        each.removeAttribute("aria-current");
      }
    }
    document.title = `${byId(`${chosen}-title`).textContent} - ratekeeper`;
    if (how === "navigated") {
      byId(`${chosen}-title`).focus();
    }
  }
  const isOther = current !== chosen;
  current = chosen;
  showError(chosen, "");
  view.enter?.(new URLSearchParams(query ?? ""));
  if (isOther) {
    poller.start();
    cancelAnimationFrame(next);
    drawFrame();
  } else {
    poller.restart();
  }
}

/** Loads the data of a view. Errors are shown in the view. */
async function loadView(name, signal) {
  try {
    await VIEWS[name].view.load(signal);
    if (!signal.aborted) {
      showError(name, "");
    }
    return undefined;
  } catch (error) {
    if (!signal.aborted) {
      report(error, (message) => showError(name, message));
      VIEWS[name].view.failed?.(error);
    }
    return error.status >= 400 && error.status < 500 ? Math.max(VIEWS[name].every, REJECTED_MS) : UNAVAILABLE_MS;
  }
}

/** Shows an error in a view. The overview has no element for errors; the banner shows them. */
function showError(name, message) {
  const element = byId(`${name}-error`);
  if (element) {
    write(element, message);
  }
}

function report(error, show) {
  if (!(error instanceof ApiError)) {
    // A bug of this page belongs into the console and must not look like an error of the server.
    console.error(error);
  }
  show(error instanceof ApiError ? error.message : "The page has an internal error. Reload it.");
}

/** Draws an animation frame while the view of a bucket is visible. */
function drawFrame() {
  if (current === "bucket") {
    bucket.animate();
    next = requestAnimationFrame(drawFrame);
  }
}
