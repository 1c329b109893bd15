// How much gets through where when each packet has come is told: from a page to the server, and
// from the server to a page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, equipped, until } from "./support.mjs";

/** In the page: joins a room, with pictures of 720 lines that take many bits if `sends`. */
const join = async ({ signal, sends }) => {
  const made = watchConnections();
  const { RTCConnection } = await import("/ortc.js");
  const conn = new RTCConnection();
  globalThis.described = [];
  const say = signalTo(conn, signal, { onTrack: track => globalThis.described.push(track) });
  conn.onaddstream = ({ stream }) => {
    const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
    document.body.append(video);
    video.play();
  };
  if (sends) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
    const draw = canvas.getContext("2d");
    const noise = new ImageData(320, 180);
    setInterval(() => {
      const pixels = new Uint32Array(noise.data.buffer);
      for (let n = 0; n < pixels.length; n++) pixels[n] = 0xff000000 | (Math.random() * 0xffffff);
      for (let n = 0; n < 8; n++) draw.putImageData(noise, (n % 4) * 320, n < 4 ? 0 : 360);
    }, 66);
    conn.addStream(new MediaStream(canvas.captureStream(15).getTracks()));
    for (const track of conn.tracks()) say({ track: track.getDescription() });
  }
  /** Has the encoder take what it gets, and leave pictures as large as they are. */
  globalThis.widen = () => keepSize(made, { maxBitrate: 4e6 });
  globalThis.figures = async () => {
    const pc = made.find(pc => pc.connectionState === "connected");
    if (!pc) return null;
    const all = [...(await pc.getStats()).values()];
    const of = (type, wanted = () => true) => all.find(it => it.type === type && wanted(it));
    const stream = of(sends ? "outbound-rtp" : "inbound-rtp", it => it.kind === "video" && (it.bytesSent ?? it.bytesReceived) > 0);
    const { selectedCandidatePairId } = of("transport");
    const pair = of("candidate-pair", it => it.id === selectedCandidatePairId);
    return {
      at: performance.now(),
      bytes: stream?.bytesSent ?? stream?.bytesReceived ?? 0,
      height: stream?.frameHeight ?? 0,
      available: pair?.availableOutgoingBitrate ?? 0,
      numbers: pc.remoteDescription.sdp.split("\r\n").filter(line => line.includes("transport-wide-cc-extensions-01")).length,
    };
  };
};

/** Bits per second of 4 s, once they are more than `least`; or what they were at last. */
const rate = async (page, least) => {
  let bits = 0;
  for (let tries = 0; tries < 8 && bits < least; tries++) {
    const [before, after] = [await page.evaluate(() => figures()), await (async () => {
      await new Promise(later => setTimeout(later, 4000));
      return page.evaluate(() => figures());
    })()];
    bits = ((after.bytes - before.bytes) * 8000) / (after.at - before.at);
  }
  return bits;
};

test("pictures of 720 lines get 2 Mbit/s and more through the server, both ways", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const receiver = await bench.chromium(`${server.url}/start`);
  await equipped(receiver, join, { signal: `${server.socket}/rooms/wide`, sends: false });
  const sender = await bench.chromium(`${server.url}/start`);
  await equipped(sender, join, { signal: `${server.socket}/rooms/wide`, sends: true });
  await until(sender, () => widen());
  await until(receiver, async () => (await figures())?.bytes > 0);
  const [sent, received] = await Promise.all([rate(sender, 2e6), rate(receiver, 2e6)]);
  const [there, here] = [await sender.evaluate(() => figures()), await receiver.evaluate(() => figures())];
  console.log(`sent ${Math.round(sent / 1e3)} kbit/s, received ${Math.round(received / 1e3)}; the sender may send ${Math.round(there.available / 1e3)}`);
  assert.ok(there.numbers > 0 && here.numbers > 0, "the numbers of packets are agreed on");
  assert.ok(there.available >= 2e6, `${there.available} may be sent`);
  assert.ok(sent >= 2e6, `${sent} bit/s are sent`);
  assert.ok(received >= 2e6, `${received} bit/s are received`);
  assert.deepEqual([there.height, here.height], [720, 720]);
  const [track] = await receiver.evaluate(() => described);
  assert.ok(track.codecs[0].rtcpFeedback.includes("transport-cc"));
});
