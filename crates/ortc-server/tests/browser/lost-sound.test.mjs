// Sound of which one packet in seven is lost on its way to Chromium, with and without packets that
// repeat those before them (RED, RFC 2198), side by side. Started in a network namespace of its own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { Bench, equipped, until } from "./support.mjs";

const run = (...command) => execFileSync(command[0], command.slice(1), { stdio: ["ignore", "ignore", "inherit"] });

/** In the page: joins a room and plays what comes. */
const enter = async signal => {
  const made = watchConnections();
  const { RTCConnection, getRTCCapabilities } = await import("/ortc.js");
  const conn = new RTCConnection();
  const repeats = new Map();
  signalTo(conn, signal, {
    first: [{ capabilities: { audioCodecs: getRTCCapabilities().audioCodecs } }],
    onTrack: track => repeats.set(Number(track.ssrc), track.codecs[0].name === "red"),
  });
  conn.onaddstream = ({ stream }) => {
    const audio = Object.assign(new Audio(), { srcObject: stream });
    document.body.append(audio);
    audio.play();
  };
  const all = async () => (await Promise.all(made.map(pc => pc.getStats()))).flatMap(report => [...report.values()]);
  /** What has come of the sound that repeats itself, and of the other. */
  globalThis.heard = async () => {
    const inbound = (await all()).filter(it => it.type === "inbound-rtp" && it.kind === "audio" && it.packetsReceived > 100);
    const find = isRepeated => inbound.find(({ ssrc }) => repeats.get(ssrc) === isRepeated);
    return inbound.length === 2 && { repeated: find(true), plain: find(false) };
  };
  /** The port that it comes from. */
  globalThis.port = async () => {
    const found = await all();
    const pair = found.find(it => it.type === "candidate-pair" && it.nominated && it.bytesReceived > 0);
    return found.find(({ id }) => id === pair?.remoteCandidateId)?.port;
  };
};

test("of sound that repeats itself Chromium has to make up a part of what it makes up of other sound", { timeout: 120_000 }, async t => {
  run("ip", "link", "set", "lo", "up");
  const bench = new Bench(t);
  const server = await bench.serve();
  const sine = join(bench.scratch(), "sine.ogg");
  run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=frequency=440:duration=110", "-c:a", "libopus", sine);
  const signal = `${server.socket}/rooms/lost`;
  const page = await bench.chromium(`${server.url}/start`);
  await equipped(page, enter, signal);
  for (const repeated of ["1", "0"]) bench.call(signal, ["--redundancy", repeated, "--play", sine]);
  await until(page, () => heard());
  const port = await page.evaluate(() => port());
  run("nft", `add table inet lossy; add chain inet lossy in { type filter hook input priority 0; }; \
add rule inet lossy in udp sport ${port} numgen random mod 7 < 1 counter drop`);
  const before = await page.evaluate(() => heard());
  await new Promise(done => setTimeout(done, 15_000));
  const after = await page.evaluate(() => heard());
  // It counts what it takes from repetitions nowhere: not in `fecPacketsReceived` either.
  const share = name => {
    const since = what => after[name][what] - before[name][what];
    t.diagnostic(`${name}: ${since("packetsLost")} packets lost, ${after[name].fecPacketsReceived} told to be repeated`);
    return since("concealedSamples") / since("totalSamplesReceived");
  };
  const [repeated, plain] = [share("repeated"), share("plain")];
  t.diagnostic(`${repeated} and ${plain} of the sound were made up`);
  assert.ok(plain > 0.03, `${plain} of the sound was made up without`);
  assert.ok(repeated < plain / 2, `${repeated} of the sound was made up, and ${plain} without`);
});
