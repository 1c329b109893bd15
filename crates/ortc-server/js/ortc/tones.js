// Tones that are sent: one queue for each audio track, with the commands of both drafts.

const DIGITS = "0123456789ABCD#*";
const PAUSE_MS = 2000;
const LEAST_MS = 70;
const MOST_MS = 6000;
const LEAST_GAP_MS = 50;
const DURATION_MS = 100;
const MAX_QUEUE = 1024;
const RETRY_MS = 20;

/** The digits and commas of a text; whatever else is ignored. */
export function digitsOf(text) {
  return [...String(text).toUpperCase()].filter(c => DIGITS.includes(c) || c === ",");
}

/** Tones as the queue has them. Throws a RangeError outside of the limits of draft B. */
export function tonesOf(text, duration = DURATION_MS, gap = LEAST_GAP_MS) {
  if (!(duration >= LEAST_MS && duration <= MOST_MS)) {
    throw new RangeError(`a tone lasts ${LEAST_MS} to ${MOST_MS} ms`);
  }
  if (!(gap >= LEAST_GAP_MS && gap <= MOST_MS)) throw new RangeError(`the gap is at least ${LEAST_GAP_MS} ms`);
  return digitsOf(text).map(digit => ({ digit, duration, gap }));
}

/**
 * Plays tones one after another. `play({ digit, duration, gap })` has one begin on the wire, and
 * tells whether it did; time is that of `setTimeout` and `now`, which tests replace.
 */
export class ToneQueue {
  #play;
  #clock;
  #waiting = [];
  #current = null;
  #timer = null;
  #isReady = false;
  #held = null;
  #listeners = new Set();

  constructor(play, clock = { setTimeout: globalThis.setTimeout.bind(globalThis),
    clearTimeout: globalThis.clearTimeout.bind(globalThis), now: () => performance.now() }) {
    this.#play = play;
    this.#clock = clock;
  }

  /** What is still to be played, the current tone not among it. */
  get buffer() { return this.#waiting.map(({ digit }) => digit).join(""); }

  /** Hears `start`, `stop` and `tone`, with the tone. */
  listen(listener) { this.#listeners.add(listener); }

  /** From now on tones can be sent: before, they wait. */
  ready() {
    this.#isReady = true;
    this.#next();
  }

  add(tones) {
    if (this.#waiting.length + tones.length > MAX_QUEUE) {
      throw new DOMException(`at most ${MAX_QUEUE} tones wait`, "QuotaExceededError");
    }
    this.#waiting.push(...tones);
    this.#next();
  }

  /** In place of all that waits. */
  replace(tones) {
    this.#waiting.length = 0;
    this.add(tones);
  }

  flush() {
    this.#waiting.length = 0;
    this.#held = null;
  }

  /** A key is pressed. It goes out when it is released, as long as it was held. */
  hold(digit) {
    const [tone] = digitsOf(digit).filter(c => c !== ",");
    if (!tone) throw new SyntaxError(`"${digit}" is no key`);
    this.release();
    this.#held = { digit: tone, since: this.#clock.now() };
  }

  release() {
    if (!this.#held) return;
    const { digit, since } = this.#held;
    this.#held = null;
    const duration = Math.round(Math.min(MOST_MS, Math.max(LEAST_MS, this.#clock.now() - since)));
    this.add([{ digit, duration, gap: LEAST_GAP_MS }]);
  }

  close() {
    this.flush();
    this.#isReady = false;
    this.#clock.clearTimeout(this.#timer);
  }

  #tell(what, tone) {
    for (const listener of this.#listeners) listener(what, tone);
  }

  #next() {
    if (!this.#isReady || this.#current || !this.#waiting.length) return;
    const tone = this.#waiting.shift();
    this.#current = tone;
    const after = (ms, then) => { this.#timer = this.#clock.setTimeout(then, ms); };
    const done = () => {
      this.#current = null;
      this.#next();
    };
    if (tone.digit === ",") return after(PAUSE_MS, done);
    if (!this.#play(tone)) {
      // The browser is not ready for it yet: its track has only just been added.
      this.#waiting.unshift(tone);
      return after(RETRY_MS, done);
    }
    this.#tell("start", tone);
    after(tone.duration, () => {
      this.#tell("stop", tone);
      this.#tell("tone", tone);
      after(tone.gap, done);
    });
  }
}
