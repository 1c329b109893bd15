// Tones that are received: telephone events (RFC 4733), from packets to keys.

const KEYS = "0123456789*#ABCD";
/** A tone of which nothing has come for so long has ended, though its end was lost. */
const SILENCE_MS = 500;

/**
 * Each key is reported once, whatever the network does: packets of one tone share a timestamp.
 * `report(what, { digit, duration })` hears `start`, `stop` and `tone`; duration is in ms.
 */
export class ToneReceiver {
  #report;
  #clockRate;
  #clock;
  #current = null;
  #last = null;

  constructor(clockRate, report, clock = { setTimeout: globalThis.setTimeout.bind(globalThis),
    clearTimeout: globalThis.clearTimeout.bind(globalThis) }) {
    this.#clockRate = clockRate;
    this.#report = report;
    this.#clock = clock;
  }

  /** Takes the payload of a packet, 4 bytes. */
  take(timestamp, payload) {
    if (payload.length < 4) return;
    const digit = KEYS[payload[0]];
    if (digit === undefined) return;
    const isEnd = (payload[1] & 0x80) !== 0;
    const duration = (payload[2] << 8) | payload[3];
    // An end is repeated, and what was overtaken comes late.
    if (this.#last !== null && ((timestamp - this.#last) | 0) <= 0) return;
    if (this.#current && this.#current.timestamp !== timestamp) {
      if (this.#isContinued(timestamp, digit)) {
        // RFC 4733 §2.5.1.3: a long tone goes on in segments.
        this.#current.before += this.#current.duration;
        Object.assign(this.#current, { timestamp, duration: 0 });
      } else {
        this.#end();
      }
    }
    if (!this.#current) {
      this.#current = { timestamp, digit, before: 0, duration: 0 };
      this.#report("start", { digit, duration: 0 });
    }
    this.#current.duration = Math.max(this.#current.duration, duration);
    this.#clock.clearTimeout(this.#current.timer);
    if (isEnd) this.#end();
    else this.#current.timer = this.#clock.setTimeout(() => this.#end(), SILENCE_MS);
  }

  close() {
    if (this.#current) this.#end();
  }

  /** Whether this is the next segment of the tone: it begins where the longest one ends. */
  #isContinued(timestamp, digit) {
    const { timestamp: from, digit: before, duration } = this.#current;
    const passed = (timestamp - from) | 0;
    return digit === before && duration > 0xf000 && passed >= duration && passed <= 0x10000;
  }

  #end() {
    const { timestamp, digit, before, duration, timer } = this.#current;
    this.#clock.clearTimeout(timer);
    this.#current = null;
    this.#last = timestamp;
    const tone = { digit, duration: Math.round((1000 * (before + duration)) / this.#clockRate) };
    this.#report("stop", tone);
    this.#report("tone", tone);
  }
}
