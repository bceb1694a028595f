// Asking the server: one question at a time of each kind, none while nobody looks.

/** Longer than this, an answer is given up. */
const PATIENCE_MS = 5000;

/** What the server said instead of an answer, or that it said nothing. */
export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Asks for something below `api/v1/`. */
export async function get(path, query = {}, signal = undefined) {
  return ask(path, query, { signal });
}

/** Has the server change something. */
export async function post(path, body, token) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  return ask(path, {}, { method: "POST", headers, body: JSON.stringify(body) });
}

async function ask(path, query, options) {
  const search = new URLSearchParams(query).toString();
  const limits = [AbortSignal.timeout(PATIENCE_MS), options.signal].filter(Boolean);
  const address = `api/v1/${path}${search ? `?${search}` : ""}`;
  let answer;
  let said;
  try {
    answer = await fetch(address, { ...options, signal: AbortSignal.any(limits), cache: "no-store" });
    said = await answer.json();
  } catch (error) {
    throw options.signal?.aborted ? error : new Failure("The server does not answer.", answer?.status ?? 0);
  }
  if (!answer.ok) {
    throw new Failure(said?.error ?? `The server answers ${answer.status}.`, answer.status);
  }
  return said;
}

/** Asks again and again: the next question waits for the answer to the one before. */
export class Poller {
  static #all = new Set();

  #every;
  #ask;
  #wanted = false;
  #turn = null;

  /** `ask` gets a signal that ends it. It deals with its own failures, and says how long to wait after one. */
  constructor(every, ask) {
    this.#every = every;
    this.#ask = ask;
    Poller.#all.add(this);
  }

  start() {
    this.#wanted = true;
    this.#turn ??= this.#go();
  }

  stop() {
    this.#wanted = false;
    this.#end();
  }

  /** Asks at once: the question has become another one. */
  again() {
    if (this.#wanted) {
      this.#end();
      this.#turn = this.#go();
    }
  }

  #end() {
    this.#turn?.abort();
    this.#turn = null;
  }

  #go() {
    if (document.hidden) {
      return null;
    }
    const turn = new AbortController();
    this.#run(turn.signal);
    return turn;
  }

  async #run(signal) {
    while (!signal.aborted) {
      const begun = performance.now();
      const pause = (await this.#ask(signal)) ?? this.#every;
      await sleep(Math.max(0, begun + pause - performance.now()), signal);
    }
  }

  /** Nobody looks at a page that is hidden. */
  static look() {
    for (const poller of Poller.#all) {
      if (document.hidden) {
        poller.#end();
      } else if (poller.#wanted) {
        poller.#turn ??= poller.#go();
      }
    }
  }
}

document.addEventListener("visibilitychange", () => Poller.look());

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
