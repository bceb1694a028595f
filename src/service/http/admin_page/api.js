// Requests to the admin API: one at a time of each kind, and none while the page is hidden.

/** Timeout of a request. */
const TIMEOUT_MS = 5000;

/** An error response of the server, or a request without a response. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Requests a document below `api/v1/`. */
export async function get(path, query = {}, signal = undefined) {
  return request(path, query, { signal });
}

/** Changes something with the admin token. */
export async function post(path, body, token) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  return request(path, {}, { method: "POST", headers, body: JSON.stringify(body) });
}

async function request(path, query, options) {
  const search = new URLSearchParams(query).toString();
  const limits = [AbortSignal.timeout(TIMEOUT_MS), options.signal].filter(Boolean);
  const address = `api/v1/${path}${search ? `?${search}` : ""}`;
  let response;
  let body;
  try {
    response = await fetch(address, { ...options, signal: AbortSignal.any(limits), cache: "no-store" });
    body = await response.json();
  } catch (error) {
    throw options.signal?.aborted ? error : new ApiError("The server does not respond.", response?.status ?? 0);
  }
  if (!response.ok) {
    throw new ApiError(body?.error ?? `The server responds with status ${response.status}.`, response.status);
  }
  return body;
}

/** Repeats a request. The next one begins after the response to the previous one. */
export class Poller {
  static #all = new Set();

  #every;
  #load;
  #isStarted = false;
  #run = null;

  /** `load` receives a signal that aborts it. It handles its errors, and returns how long to wait after one. */
  constructor(every, load) {
    this.#every = every;
    this.#load = load;
    Poller.#all.add(this);
  }

  start() {
    this.#isStarted = true;
    this.#run ??= this.#go();
  }

  stop() {
    this.#isStarted = false;
    this.#end();
  }

  /** Requests immediately, because the parameters have changed. */
  restart() {
    if (this.#isStarted) {
      this.#end();
      this.#run = this.#go();
    }
  }

  #end() {
    this.#run?.abort();
    this.#run = null;
  }

  #go() {
    if (document.hidden) {
      return null;
    }
    const run = new AbortController();
    this.#repeat(run.signal);
    return run;
  }

  async #repeat(signal) {
    while (!signal.aborted) {
      const begun = performance.now();
      const pause = (await this.#load(signal)) ?? this.#every;
      await sleep(Math.max(0, begun + pause - performance.now()), signal);
    }
  }

  /** Pauses all requests while the page is hidden. */
  static onVisibilityChange() {
    for (const poller of Poller.#all) {
      if (document.hidden) {
        poller.#end();
      } else if (poller.#isStarted) {
        poller.#run ??= poller.#go();
      }
    }
  }
}

document.addEventListener("visibilitychange", () => Poller.onVisibilityChange());

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
