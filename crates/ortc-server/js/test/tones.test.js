import assert from "node:assert/strict";
import { test } from "node:test";
import { ToneReceiver } from "../ortc/tone-receiver.js";
import { ToneQueue, digitsOf, tonesOf } from "../ortc/tones.js";

/** Time that passes when it is told to. */
class Clock {
  time = 0;
  #timers = [];
  setTimeout = (then, ms) => {
    const timer = { at: this.time + ms, then };
    this.#timers.push(timer);
    return timer;
  };
  clearTimeout = timer => { this.#timers = this.#timers.filter(other => other !== timer); };
  now = () => this.time;
  pass(ms) {
    const end = this.time + ms;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.clearTimeout(next);
      this.time = Math.max(this.time, next.at);
      next.then();
    }
    this.time = end;
  }
}

function queue() {
  const clock = new Clock();
  const log = [];
  const playing = isReady => ({ digit, duration }) => {
    log.push(`${clock.time} ${digit} ${duration}`);
    return isReady;
  };
  return { clock, log, tones: new ToneQueue(playing(true), clock), unready: new ToneQueue(playing(false), clock) };
}

test("characters are read as draft B says", () => {
  assert.equal(digitsOf("1aD x*#,e9").join(""), "1AD*#,9");
  assert.deepEqual(tonesOf("1"), [{ digit: "1", duration: 100, gap: 50 }]);
  for (const [duration, gap] of [[69, 50], [6001, 50], [100, 49], [NaN, 50]]) {
    assert.throws(() => tonesOf("1", duration, gap), RangeError);
  }
});

test("tones wait until they can be sent, and follow one another", () => {
  const { clock, log, tones } = queue();
  tones.add(tonesOf("12,3", 100, 50));
  clock.pass(1000);
  assert.deepEqual([log, tones.buffer], [[], "12,3"]);
  tones.ready();
  clock.pass(3000);
  assert.deepEqual(log, ["1000 1 100", "1150 2 100", "3300 3 100"]);
});

test("a held key goes out when it is released, as long as it was held", () => {
  const { clock, log, tones } = queue();
  tones.ready();
  tones.add(tonesOf("1", 500));
  tones.hold("5");
  clock.pass(300);
  tones.release();
  tones.hold("6");
  clock.pass(10);
  tones.release();
  tones.release();
  clock.pass(5000);
  assert.deepEqual(log, ["0 1 500", "550 5 300", "900 6 70"]);
});

test("flushing leaves nothing to be played, and a held key is forgotten", () => {
  const { clock, log, tones } = queue();
  tones.ready();
  tones.add(tonesOf("123"));
  tones.hold("4");
  tones.flush();
  tones.release();
  clock.pass(1000);
  assert.deepEqual(log, ["0 1 100"]);
});

test("a browser that is not ready is asked again", () => {
  const { clock, log, unready } = queue();
  const told = [];
  unready.listen(what => told.push(what));
  unready.ready();
  unready.add(tonesOf("1"));
  clock.pass(50);
  assert.deepEqual([log.length, told], [3, []]);
});

const packet = (event, duration, isEnd) => Uint8Array.of(event, isEnd ? 0x8a : 10, duration >> 8, duration & 255);

function receiver(rate = 8000) {
  const clock = new Clock();
  const log = [];
  const tones = new ToneReceiver(rate, (what, { digit, duration }) => log.push(`${what} ${digit} ${duration}`), clock);
  return { clock, log, tones };
}

test("a key is reported once, whatever is repeated, overtaken or lost", () => {
  const { clock, log, tones } = receiver();
  tones.take(1000, packet(5, 160));
  tones.take(1000, packet(5, 320));
  for (let n = 0; n < 3; n++) tones.take(1000, packet(5, 800, true));
  tones.take(1000, packet(5, 480));
  // The end of the next one is lost.
  tones.take(4000, packet(11, 400));
  clock.pass(600);
  tones.take(3000, packet(1, 400));
  assert.deepEqual(log, ["start 5 0", "stop 5 100", "tone 5 100", "start # 0", "stop # 50", "tone # 50"]);
});

test("a long tone in segments is one, and another key in between ends it", () => {
  const { log, tones } = receiver(48000);
  tones.take(0, packet(1, 960));
  tones.take(0, packet(1, 0xffff));
  tones.take(0xffff, packet(1, 960));
  tones.take(0xffff, packet(1, 9600, true));
  assert.deepEqual(log, ["start 1 0", "stop 1 1565", "tone 1 1565"]);
  tones.take(200000, packet(2, 4800));
  tones.take(300000, packet(3, 4800));
  assert.deepEqual(log.slice(3), ["start 2 0", "stop 2 100", "tone 2 100", "start 3 0"]);
});

test("what is no telephone event is left alone", () => {
  const { log, tones } = receiver();
  tones.take(0, Uint8Array.of(1, 2));
  tones.take(0, packet(16, 100, true));
  assert.deepEqual(log, []);
});
