// Pictures in several layers: of VP9 and AV1 in one stream, of H.264 as one stream for each size. Two
// who watch one camera are sent what each has room for, and go on showing it across the changes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, equipped, until } from "./support.mjs";

/** In the page: joins a room, and sends its camera in these layers, if any. */
const enter = async ({ signal, codec, simulcast, scalabilityMode }) => {
  const made = watchConnections();
  const { RTCConnection, getRTCCapabilities, getRTCCodec } = await import("/ortc.js");
  const conn = new RTCConnection();
  let described;
  const say = signalTo(conn, signal, { onTrack: track => { described = track; } });
  conn.onaddstream = ({ stream }) => {
    const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
    document.body.append(video);
    video.play();
  };
  /** Has the room send no more than so many bits per second; null for all that there is. */
  globalThis.limit = maxBitrate => say({ trackLimit: { ssrc: described.ssrc, maxBitrate } });
  /** What is received of pictures. */
  globalThis.seen = async () => {
    const all = (await Promise.all(made.map(pc => pc.getStats()))).flatMap(report => [...report.values()]);
    return all.find(it => it.type === "inbound-rtp" && it.kind === "video" && it.framesDecoded > 0);
  };
  if (!codec) return;
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { width: { exact: 960 }, height: { exact: 540 }, frameRate: 15 },
  });
  const source = stream.getVideoTracks()[0];
  conn.addStream(stream, true, { simulcast, scalabilityMode });
  const [track] = conn.tracks();
  const full = getRTCCodec(codec);
  const isRepair = ({ name, params }) => name === "rtx" && params[0].value === `${full["payload-id"]}`;
  track.codecs = [full, ...getRTCCapabilities().videoCodecs.filter(isRepair)];
  say({ track: track.getDescription() });
  globalThis.keep = () => keepSize(made);
};

/** In the page: what is shown, once its picture is as wide as that. */
const isWide = async width => {
  const found = await seen();
  return found?.frameWidth === width && found;
};

const pause = milliseconds => new Promise(done => setTimeout(done, milliseconds));

for (const [codec, layers] of [
  ["h264", { simulcast: true }],
  ["vp9", { scalabilityMode: "L3T3_KEY" }],
  ["av1", { scalabilityMode: "L3T3_KEY" }],
]) {
  test(`two who watch one camera get the layers of ${codec} that each has room for`, { timeout: 240_000 }, async t => {
    const bench = new Bench(t);
    const server = await bench.serve();
    const signal = `${server.socket}/rooms/layers`;
    const pages = [];
    for (const options of [{}, {}, { codec, ...layers }]) {
      const page = await bench.chromium(`${server.url}/start`);
      await equipped(page, enter, { signal, ...options });
      pages.push(page);
    }
    const [one, other, camera] = pages;
    await until(camera, () => keep());
    await Promise.all([one, other].map(page => until(page, () => seen())));
    // Each in turn gets the best and the least.
    for (const [large, small] of [[one, other], [other, one]]) {
      await large.evaluate(() => limit(null));
      await small.evaluate(() => limit(120_000));
      const before = await Promise.all([
        until(large, isWide, 960), until(small, isWide, 240),
      ]);
      // And goes on with it: what is left out is missed by nobody, and nobody asks for a picture anew.
      await pause(4_000);
      const after = await Promise.all([large, small].map(page => page.evaluate(() => seen())));
      for (const [at, now] of after.entries()) {
        const frames = now.framesDecoded - before[at].framesDecoded;
        const { packetsLost, pliCount, keyFramesDecoded } = now;
        console.log(JSON.stringify({ codec, width: now.frameWidth, frames, packetsLost, pliCount, keyFramesDecoded }));
        assert.ok(frames > 20, `${frames} pictures in 4 s`);
        assert.ok(packetsLost <= 2, `${packetsLost} lost`);
        assert.ok(pliCount <= 2, `${pliCount} pictures asked for anew`);
      }
      assert.ok(await small.evaluate(isWide, 240), "it stays as small");
      // On a busy machine the estimate may have had room for less for a moment.
      await until(large, isWide, 960);
    }
  });
}
