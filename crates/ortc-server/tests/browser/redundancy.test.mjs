// Sound whose packets repeat those before them (RED, RFC 2198): from Chromium and to Chromium, with a
// Rust peer, through the server; and without what is repeated to a browser that does not know it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { Bench, LONG, equipped, until } from "./support.mjs";

/** In the page: joins a room, and sends a tone that repeats itself if `sends`. */
const enter = async ({ signal, sends }) => {
  const made = watchConnections();
  const { RTCConnection, getRTCCapabilities, getRTCCodec } = await import("/ortc.js");
  const conn = new RTCConnection();
  globalThis.described = [];
  const { audioCodecs } = getRTCCapabilities();
  const first = [{ capabilities: { audioCodecs } }];
  const say = signalTo(conn, signal, { first, onTrack: track => globalThis.described.push(track) });
  conn.onaddstream = ({ stream }) => {
    const audio = Object.assign(new Audio(), { srcObject: stream });
    document.body.append(audio);
    audio.play();
  };
  if (sends) {
    const context = new AudioContext();
    const [oscillator, out] = [context.createOscillator(), context.createMediaStreamDestination()];
    oscillator.connect(out);
    oscillator.start();
    conn.addStream(out.stream);
    const [track] = conn.tracks();
    track.codecs = [getRTCCodec("red"), ...track.codecs];
    say({ track: track.getDescription() });
  }
  /** Of each track of sound that is received: how much it is, and whether there is something to hear. */
  globalThis.heard = async () => {
    const all = (await Promise.all(made.map(pc => pc.getStats()))).flatMap(report => [...report.values()]);
    return all.filter(it => it.type === "inbound-rtp" && it.kind === "audio" && it.packetsReceived > 100).map(it => ({
      packets: it.packetsReceived, bytes: it.bytesReceived, energy: it.totalAudioEnergy,
    }));
  };
  return audioCodecs.map(({ name }) => name);
};

test("sound that repeats itself goes from and to Chromium, and is heard where it is not known", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const sine = join(bench.scratch(), "sine.ogg");
  execFileSync("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", "sine=frequency=440:duration=110", "-c:a", "libopus", sine]);
  const signal = `${server.socket}/rooms/red`;
  const listener = await bench.chromium(`${server.url}/start`);
  assert.ok((await equipped(listener, enter, { signal, sends: false })).includes("red"));
  const other = await bench.firefox(`${server.url}/start`);
  assert.ok(!(await equipped(other, enter, { signal, sends: false })).includes("red"));
  const speaker = await bench.chromium(`${server.url}/start`);
  await equipped(speaker, enter, { signal, sends: true });
  const caller = bench.call(signal, ["--redundancy", "1", "--play", sine, "--stats", ...LONG]);

  const both = async () => {
    const all = await heard();
    return all.length === 2 && all.every(({ energy }) => energy > 0) && all;
  };
  const [known, unknown] = await Promise.all([listener, other].map(page => until(page, both)));
  console.log(JSON.stringify({ known, unknown }));
  // Each packet but the first has another in it, and Chromium, which tells of none, plays both.
  const size = all => all.reduce((sum, { bytes }) => sum + bytes, 0) / all.reduce((sum, { packets }) => sum + packets, 0);
  assert.ok(size(known) > 1.6 * size(unknown), `${size(known)} bytes, and ${size(unknown)} without`);
  // All are told of it, whatever they know: it may be said later.
  for (const page of [listener, other]) {
    const codecs = await page.evaluate(() => described.map(({ codecs }) => codecs.map(({ name }) => name).slice(0, 2)));
    assert.deepEqual(codecs, Array(2).fill(["red", "opus"]));
  }
  const { lines } = await caller.hangUp();
  const inbound = lines.at(-1).stats.find(({ type }) => type === "inbound-rtp");
  assert.ok(inbound.fecPacketsReceived >= inbound.packetsReceived - 1, JSON.stringify(inbound));
  assert.ok(lines.every(({ at_seconds }, n) => n === 0 || at_seconds > lines[n - 1].at_seconds));
});
