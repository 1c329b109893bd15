// The candidates that Chromium has by itself, where it does not trust a page with its addresses and
// where there is no UDP: names of the link, and streams that it opens.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, LONG, equipped, strongest } from "./support.mjs";

/** In the page: a call with whoever is in the pair; what was signalled, which pair it is, and the sound. */
const call = async ({ signal, transport, seconds, hertz }) => {
  const { RTCConnection } = await import("/ortc.js");
  const conn = new RTCConnection();
  const [ours, theirs] = [[], []];
  const say = signalTo(conn, signal, {
    admits: (candidate, whose) => {
      if (candidate.transport !== transport) return false;
      (whose === "ours" ? ours : theirs).push(candidate);
      return true;
    },
  });
  let pair;
  conn.onactivecandidate = ({ localCandidate, remoteCandidate }) => { pair = [localCandidate, remoteCandidate]; };
  const added = new Promise(done => { conn.onaddstream = ({ stream }) => done(stream); });
  const context = new AudioContext();
  const [oscillator, out] = [context.createOscillator(), context.createMediaStreamDestination()];
  oscillator.frequency.value = hertz;
  oscillator.connect(out);
  oscillator.start();
  conn.addStream(out.stream);
  for (const track of conn.tracks()) say({ track: track.getDescription() });
  const remote = await added;
  // Sound that nobody plays is not rendered.
  await Object.assign(document.createElement("audio"), { srcObject: remote }).play();
  const recorder = new MediaRecorder(remote);
  const recorded = new Promise(done => { recorder.ondataavailable = ({ data }) => done(data); });
  recorder.start();
  await new Promise(later => setTimeout(later, seconds * 1000));
  recorder.stop();
  const bytes = new Uint8Array(await (await recorded).arrayBuffer());
  return { sound: btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join("")), ours, theirs, pair };
};

const NAME = /^[0-9a-f-]{36}\.local$/;

/** Chromium looks up names of the link, and no others. */
const RESOLVES = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.local";

/** A call of a page with a Rust peer by candidates of one transport: what both say of it. */
async function meet(t, transport, isDenied, options) {
  const bench = new Bench(t);
  const server = await bench.serve();
  const signal = `${server.socket}/pairs/own`;
  const page = await bench.chromium(`${server.url}/start`, { isDenied, args: [RESOLVES] });
  const caller = bench.call(signal, ["--play", "tone:440", "--record", bench.scratch(), ...LONG, ...options]);
  const seen = await equipped(page, call, { signal, transport, seconds: 3, hertz: 700 });
  const summary = await caller.hangUp();
  assert.equal(strongest(seen.sound, [350, 440, 550, 700]), 440);
  const track = summary.received.find(track => track.kind === "audio");
  assert.equal(strongest(track.file, [440, 600, 700, 800]), 700);
  return { seen, summary };
}

test("a page without permissions and a Rust peer find each other by names alone", { timeout: 120_000 }, async t => {
  const { seen, summary } = await meet(t, "udp", true, ["--mdns"]);
  for (const candidate of [...seen.ours, ...seen.theirs]) {
    assert.equal(candidate.type, "host");
    assert.match(candidate.connectionAddress, NAME);
  }
  assert.ok(seen.ours.length > 0 && seen.theirs.length > 0);
  assert.match(summary.local_candidate.connectionAddress, NAME);
});

test("a page whose datagrams do not get through connects by a stream", { timeout: 120_000 }, async t => {
  const { seen, summary } = await meet(t, "tcp", false, ["--tcp"]);
  assert.ok(seen.ours.length > 0 && seen.ours.every(candidate => candidate.tcpType === "active"));
  assert.ok(seen.theirs.some(candidate => candidate.tcpType === "passive"));
  const { local_candidate: local, remote_candidate: remote } = summary;
  assert.deepEqual([local.transport, local.tcpType], ["tcp", "passive"]);
  assert.deepEqual([remote.transport, remote.tcpType, remote.type], ["tcp", "active", "prflx"]);
  assert.deepEqual(seen.pair?.map(candidate => candidate?.transport), ["tcp", "tcp"]);
});
