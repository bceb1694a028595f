// The admin page: one view at a time, which asks only for what it shows.
//
// The status is asked for in every view: rates are made of its differences, and trouble has to be seen.

import * as banner from "./banner.js";
import * as bucket from "./bucket.js";
import * as configuration from "./configuration.js";
import * as explain from "./explain.js";
import * as overview from "./overview.js";
import { History } from "./rates.js";
import * as rules from "./rules.js";
import { Failure, Poller, get } from "./api.js";
import * as top from "./top.js";
import { at, shown, write } from "./render.js";

/** How soon to ask again when there was no answer, and when the question was refused. */
const UNANSWERED_MS = 2000;
const REFUSED_MS = 5000;

/** How often each view asks; one that never asks again has an hour. */
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

for (const [name, place] of Object.entries(VIEWS)) {
  place.poller = new Poller(place.every, (signal) => asked(name, signal));
  place.view.onChoice?.((query) => {
    if (query) {
      location.hash = `${name}?${query}`;
    }
    place.poller.again();
  });
}

new Poller(1000, async (signal) => {
  try {
    tell(await get("status", {}, signal));
    return undefined;
  } catch (error) {
    if (!signal.aborted) {
      fail(error, (message) => banner.silent(message));
    }
    return UNANSWERED_MS;
  }
}).start();

addEventListener("hashchange", () => go("moved"));
document.querySelector(".skip").addEventListener("click", (event) => {
  // The address names the view; it is not for jumping to a place.
  event.preventDefault();
  at("content").focus();
});
go("begun");

function tell(status) {
  banner.answered(status);
  history.add(status);
  const health = status.healthy ? "healthy" : "not healthy";
  write(at("who"), `${shown(status.instance, 80)}, version ${shown(status.version)}, ${health}`);
  overview.tell(history);
  bucket.allow(status.can_change);
  if (configuration.tell(status)) {
    VIEWS.configuration.poller.again();
  }
}

/** Shows the view that the address names. */
function go(how) {
  const [name, query] = location.hash.slice(1).split(/\?(.*)/s);
  const chosen = Object.hasOwn(VIEWS, name) ? name : "overview";
  const { view, poller } = VIEWS[chosen];
  if (current !== chosen) {
    VIEWS[current]?.poller.stop();
    for (const other of Object.keys(VIEWS)) {
      at(other).hidden = other !== chosen;
    }
    for (const each of links) {
      if (each.hash === `#${chosen}`) {
        each.setAttribute("aria-current", "page");
      } else {
        each.removeAttribute("aria-current");
      }
    }
    document.title = `${at(`${chosen}-title`).textContent} - ratekeeper`;
    if (how === "moved") {
      at(`${chosen}-title`).focus();
    }
  }
  const isOther = current !== chosen;
  current = chosen;
  complain(chosen, "");
  view.enter?.(new URLSearchParams(query ?? ""));
  if (isOther) {
    poller.start();
    cancelAnimationFrame(next);
    picture();
  } else {
    poller.again();
  }
}

/** A view asks. What is wrong is said in the view. */
async function asked(name, signal) {
  try {
    await VIEWS[name].view.ask(signal);
    if (!signal.aborted) {
      complain(name, "");
    }
    return undefined;
  } catch (error) {
    if (!signal.aborted) {
      fail(error, (message) => complain(name, message));
      VIEWS[name].view.missed?.(error);
    }
    return error.status >= 400 && error.status < 500 ? Math.max(VIEWS[name].every, REFUSED_MS) : UNANSWERED_MS;
  }
}

/** Says in a view what is wrong, if it has a place for that: the first one leaves it to the banner. */
function complain(name, message) {
  const place = at(`${name}-error`);
  if (place) {
    write(place, message);
  }
}

function fail(error, say) {
  if (!(error instanceof Failure)) {
    // A mistake of this page: it belongs into the console, and is not to look like an answer.
    console.error(error);
  }
  say(error instanceof Failure ? error.message : "This page has failed; please load it again.");
}

/** Draws what moves by itself, for as long as it is in view. */
function picture() {
  if (current === "bucket") {
    bucket.animate();
    next = requestAnimationFrame(picture);
  }
}
