// The drafts' API in a page, between two connections of that page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, FIREFOX_HERTZ, strongest } from "./support.mjs";

/** In the page: two connections that signal to each other, and what is made to be sent. */
const setUp = async () => {
  const ortc = await import("/ortc.js");
  const pair = () => {
    const [a, b] = [new ortc.RTCConnection(), new ortc.RTCConnection()];
    for (const [from, to] of [[a, b], [b, a]]) from.oncandidate = ({ candidate }) => { if (to.state !== "closed") to.setRemoteCandidate(structuredClone(candidate)); };
    const connect = () => {
      for (const [from, to] of [[a, b], [b, a]]) {
        to.remote.ice.usernameFrag = from.local.ice.usernameFrag;
        to.remote.ice.password = from.local.ice.password;
        to.connect();
      }
    };
    return { a, b, connect };
  };
  const isFirefox = navigator.userAgent.includes("Firefox");
  const context = isFirefox ? null : new AudioContext();
  // Firefox has no sound of its own making where no sound card is; its fake microphone has.
  const microphone = isFirefox ? await navigator.mediaDevices.getUserMedia({ audio: true }) : null;
  const tone = hertz => {
    if (isFirefox) return microphone.clone();
    const [oscillator, out] = [context.createOscillator(), context.createMediaStreamDestination()];
    oscillator.frequency.value = hertz;
    oscillator.connect(out);
    oscillator.start();
    return out.stream;
  };
  const colour = (style, width = 320, height = 180) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const draw = canvas.getContext("2d");
    setInterval(() => { draw.fillStyle = style; draw.fillRect(0, 0, width, height); }, 50);
    return canvas.captureStream(20);
  };
  const event = (target, type) => new Promise(done => target.addEventListener(type, done, { once: true }));
  const pixel = async stream => {
    const video = Object.assign(document.createElement("video"), { muted: true, srcObject: new MediaStream(stream.getVideoTracks()) });
    await video.play();
    for (let n = 0; n < 5; n++) await new Promise(shown => video.requestVideoFrameCallback(shown));
    const canvas = new OffscreenCanvas(8, 8).getContext("2d");
    canvas.drawImage(video, 0, 0, 8, 8);
    return [...canvas.getImageData(4, 4, 1, 1).data.slice(0, 3)];
  };
  const sound = async stream => {
    // Sound that nobody plays is not rendered.
    await Object.assign(new Audio(), { srcObject: stream }).play();
    const recorder = new MediaRecorder(new MediaStream(stream.getTracks().filter(track => track.kind === "audio")));
    const recorded = new Promise(done => { recorder.ondataavailable = ({ data }) => done(data); });
    recorder.start();
    await new Promise(later => setTimeout(later, 2500));
    recorder.stop();
    const bytes = new Uint8Array(await (await recorded).arrayBuffer());
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
  };
  Object.assign(window, { ortc, pair, tone, colour, event, pixel, sound });
};

const BROWSERS = ["chromium", "firefox"];

async function inPage(t, kind, what, argument) {
  const bench = new Bench(t);
  const server = await bench.serve();
  const page = await bench.page(kind, `${server.url}/start`);
  await page.evaluate(setUp);
  return page.evaluate(what, argument);
}

const near = (seen, expected, by) => seen.every((value, n) => Math.abs(value - expected[n]) <= by);

for (const kind of BROWSERS) {
  test(`${kind}: sound and pictures go both ways, described before and after they come`, { timeout: 120_000 }, async t => {
    const seen = await inPage(t, kind, async () => {
      const { a, b, connect } = pair();
      const streams = { a: event(a, "addstream"), b: event(b, "addstream") };
      const connected = [event(a, "connected"), event(b, "connected")];
      const early = new MediaStream([...tone(440).getTracks(), ...colour("#c00000").getTracks()]);
      a.addStream(early);
      for (const track of a.tracks()) b.receiveTrack(track.getDescription());
      connect();
      await Promise.all(connected);
      const dtls = [a, b].map(side => [...new Uint8Array(side.remote.dtls.fingerprint["sha-256"])].join());
      const own = [b, a].map(side => [...new Uint8Array(side.local.dtls.fingerprint["sha-256"])].join());
      // Added later, without a word about it before.
      const late = new MediaStream([...tone(880).getTracks(), ...colour("#0000c0").getTracks()]);
      b.addStream(late);
      for (const track of b.tracks()) a.receiveTrack(track.getDescription());
      const [atB, atA] = [(await streams.b).stream, (await streams.a).stream];
      return {
        ids: [atB.id === early.id, atA.id === late.id], dtls: [dtls[0] === own[0], dtls[1] === own[1]],
        colours: [await pixel(atB), await pixel(atA)], sounds: [await sound(atB), await sound(atA)],
        receiving: [a.getReceivingStreams().length, b.getReceivingStreams().length],
        sending: [a.getSendingStreams()[0] === early, b.getSendingStreams()[0] === late],
      };
    });
    assert.deepEqual(seen.ids, [true, true]);
    assert.deepEqual(seen.dtls, [true, true]);
    assert.deepEqual(seen.receiving, [1, 1]);
    assert.deepEqual(seen.sending, [true, true]);
    assert.ok(near(seen.colours[0], [192, 0, 0], 30) && near(seen.colours[1], [0, 0, 192], 30), `${seen.colours}`);
    const tones = seen.sounds.map(sound => strongest(sound, [440, 550, FIREFOX_HERTZ, 880, 1000]));
    assert.deepEqual(tones, kind === "firefox" ? [FIREFOX_HERTZ, FIREFOX_HERTZ] : [440, 880]);
  });

  test(`${kind}: pictures are as small as is asked, and of what is asked at once the last counts`, { timeout: 120_000 }, async t => {
    const seen = await inPage(t, kind, async () => {
      const { a, b, connect } = pair();
      const added = event(b, "addstream");
      a.addStream(colour("#c0c000"));
      const [track] = a.tracks();
      b.receiveTrack(track.getDescription());
      const connected = event(a, "connected");
      connect();
      await connected;
      const video = Object.assign(document.createElement("video"), { muted: true, srcObject: (await added).stream });
      await video.play();
      /** How wide pictures are, once they are as wide as that. */
      const becomes = async width => {
        for (const until = performance.now() + 30_000; video.videoWidth !== width && performance.now() < until;) {
          await new Promise(shown => video.requestVideoFrameCallback(shown));
        }
        return video.videoWidth;
      };
      const widths = [];
      for (const asked of [[80, 160], [160, 80, 320]]) {
        for (const videoMaxWidth of asked) track.mediaAttributes = [{ videoMaxWidth }];
        widths.push(await becomes(asked.at(-1)));
      }
      return widths;
    });
    assert.deepEqual(seen, [160, 320]);
  });

  test(`${kind}: a track is stopped, started and removed`, { timeout: 120_000 }, async t => {
    const seen = await inPage(t, kind, async () => {
      const { a, b, connect } = pair();
      const added = event(b, "addstream");
      a.addStream(colour("#00c000"), false);
      const [track] = a.tracks();
      b.receiveTrack(track.getDescription());
      const connected = event(a, "connected");
      connect();
      await connected;
      const { stream } = await added;
      const bytes = async () => (await b.getStats()).tracks.find(it => it.ssrc === track.ssrc)?.bytes ?? 0;
      const rest = () => new Promise(later => setTimeout(later, 800));
      /** Bytes that come in a while. */
      const coming = async () => {
        const from = await bytes();
        await rest();
        return await bytes() - from;
      };
      /** The same, once it is more than so many: a browser may take its time. */
      const comingAbove = async least => {
        let bytes = 0;
        for (let tries = 0; tries < 20 && bytes <= least; tries++) bytes = await coming();
        return bytes;
      };
      await rest();
      const before = await bytes();
      track.start();
      await event(stream, "connected");
      const started = await comingAbove(500);
      track.stop();
      await rest();
      const still = await coming();
      track.start();
      // Firefox goes on with a small black picture a second.
      const again = await comingAbove(2 * still);
      const silent = event(stream, "disconnected");
      track.remove();
      const { ssrc } = track;
      b.stopReceiving(ssrc);
      await silent;
      const left = [a.tracks().length, b.getReceivingStreams().length, stream.getTracks().length];
      // Its place is taken by others, again and again.
      let rounds = 0;
      for (; rounds < 6; rounds++) {
        const more = colour("#c0c000");
        a.addStream(more);
        const [next] = a.tracks();
        const shown = event(b, "addstream");
        b.receiveTrack(next.getDescription());
        await pixel((await shown).stream);
        a.removeStream(more);
        b.stopReceiving(next.ssrc);
      }
      return { before, started, still, again, left, rounds };
    });
    assert.equal(seen.before, 0);
    assert.ok(seen.started > 500 && seen.again > 2 * seen.still, JSON.stringify(seen));
    assert.deepEqual(seen.left, [0, 0, 0]);
    assert.equal(seen.rounds, 6);
  });

  test(`${kind}: a track is received though its description comes late`, { timeout: 120_000 }, async t => {
    const seen = await inPage(t, kind, async () => {
      const { a, b, connect } = pair();
      a.addStream(colour("#c000c0"));
      const [track] = a.tracks();
      connect();
      const sent = async () => (await a.getStats()).tracks[0]?.frames ?? 0;
      while (await sent() < 10) await new Promise(later => setTimeout(later, 50));
      const added = event(b, "addstream");
      b.receiveTrack(track.getDescription());
      return pixel((await added).stream);
    });
    assert.ok(near(seen, [192, 0, 192], 30), `${seen}`);
  });

  test(`${kind}: codecs are chosen, and a closed connection is noticed by the other side`, { timeout: 120_000 }, async t => {
    const seen = await inPage(t, kind, async () => {
      const { a, b, connect } = pair();
      a.addStream(tone(500));
      const [track] = a.tracks();
      track.codecs = [navigator.getRTCCodec("ulaw")];
      const added = event(b, "addstream");
      b.receiveTrack(track.getDescription());
      const connected = event(b, "connected");
      connect();
      await connected;
      const heard = await sound((await added).stream);
      const codec = (await b.getStats()).tracks[0].codec;
      const gone = event(b, "disconnected");
      a.close();
      const { reason } = await Promise.race([gone, new Promise(later => setTimeout(() => later({ reason: "nothing" }), 60_000))]);
      return { heard, codec, reason, states: [a.state, b.state] };
    });
    assert.equal(strongest(seen.heard, [400, 500, FIREFOX_HERTZ]), kind === "firefox" ? FIREFOX_HERTZ : 500);
    assert.deepEqual([seen.codec, seen.states], ["pcmu", ["closed", "disconnected"]]);
    // Firefox says no close_notify: there, silence tells.
    assert.ok(["closed-by-peer", "path-lost"].includes(seen.reason), seen.reason);
  });

  test(`${kind}: keys are held, played and told on both faces`, { timeout: 120_000 }, async t => {
    const seen = await inPage(t, kind, async () => {
      const { a, b, connect } = pair();
      const keys = new ortc.DTMFMediaStreamTrack();
      const stream = new MediaStream([...tone(300).getTracks(), keys]);
      a.addStream(stream);
      const heard = { faces: [], tones: [], sent: [] };
      /** Waits until so many tones have come to their end on both sides. */
      const toldOf = async count => {
        while (Math.min(heard.tones.length, heard.sent.length) < count) await new Promise(later => setTimeout(later, 20));
      };
      b.onadddtmfhandler = ({ handler }) => { handler.ondtmf = ({ tone }) => heard.faces.push(tone); };
      b.onaddstream = ({ stream }) => {
        const track = stream.getTracks().find(track => track.kind === "dtmf");
        track.ontone = ({ tone }) => heard.tones.push(tone);
      };
      keys.ontone = ({ tone }) => heard.sent.push(tone.digits);
      const [track] = a.tracks();
      const description = track.getDescription();
      b.receiveTrack(description);
      const connected = event(a, "connected");
      connect();
      await connected;
      keys.play([{ digits: "1b", duration: 120 }, { digits: "#" }]);
      const since = performance.now();
      keys.tonestart("5");
      await new Promise(later => setTimeout(later, 900));
      keys.tonestop();
      const held = performance.now() - since;
      const handler = a.addDtmfHandler(stream);
      await toldOf(4);
      handler.insertDTMF("0x9", 70, 60);
      await toldOf(6);
      const refused = [];
      for (const wrong of [() => handler.insertDTMF("1", 69), () => handler.insertDTMF("1", 6001), () => handler.insertDTMF("1", 100, 49), () => { handler.ondtmf = null; }]) {
        try { wrong(); } catch (error) { refused.push(error.name); }
      }
      return { ...heard, held, refused, named: description.codecs.map(({ name }) => name) };
    });
    assert.deepEqual(seen.named, ["opus", "dtmf"]);
    assert.deepEqual(seen.faces, ["1", "B", "#", "5", "0", "9"]);
    assert.deepEqual(seen.sent, seen.faces);
    assert.deepEqual(seen.tones.map(({ digits }) => digits), seen.faces);
    const [first, , , held] = seen.tones.map(({ duration }) => duration);
    assert.ok(first >= 110 && first <= 160, `${first} ms`);
    assert.ok(held >= seen.held - 100 && held <= seen.held + 250, `held ${held} of ${seen.held} ms`);
    assert.deepEqual(seen.refused, ["RangeError", "RangeError", "RangeError", "InvalidStateError"]);
  });
}

test("what a browser cannot do is said", { timeout: 120_000 }, async t => {
  const seen = await inPage(t, "chromium", async () => {
    const { a, b } = pair();
    const nameOf = deed => { try { deed(); return "nothing"; } catch (error) { return error.name; } };
    a.addStream(tone(400));
    const capabilities = navigator.getRTCCapabilities();
    return {
      errors: [
        nameOf(() => new RTCConnection({ socket: a.getLocalSocket() })),
        nameOf(() => { a.tracks()[0].rtpExtHeaders = { room: "x" }; }),
        nameOf(() => a.update()),
        nameOf(() => a.restartIce()),
        nameOf(() => a.connect()),
        nameOf(() => { a.remote.ice.usernameFrag = "abcd"; a.remote.ice.password = "x".repeat(22); a.connect(); }),
        nameOf(() => b.receiveTrack({ kind: "audio", ssrc: "1", msid: [], codecs: [{ "payload-id": 96, name: "speex" }] })),
        nameOf(() => b.receiveTrack({ kind: "audio", ssrc: "x", msid: [], codecs: [] })),
        nameOf(() => b.setRemoteCandidate({ foundation: "1\r\na=x" })),
        nameOf(() => new RTCTrack()),
        nameOf(() => { b.close(); b.connect(); }),
      ],
      flags: Object.entries(capabilities).filter(([, value]) => value === false).map(([name]) => name),
      codecs: ["opus", "alaw", "ulaw", "dtmf", "vp8", "h264", "speex"].map(name => navigator.getRTCCodec(name)?.name ?? null),
      global: [RTCConnection, RTCTrack, RTCDTMFHandler, DTMFMediaStreamTrack].every(it => typeof it === "function"),
    };
  });
  assert.deepEqual(seen.errors, [
    "NotSupportedError", "NotSupportedError", "NotSupportedError", "InvalidStateError", "InvalidStateError", "InvalidAccessError",
    "NotSupportedError", "TypeError", "TypeError", "TypeError", "InvalidStateError",
  ]);
  assert.deepEqual(seen.flags, ["withholdLocalCandidate", "shareSocket", "rtpExtHeaders", "unknownTracks", "holdTones", "keepCredentialsOnUpdate"]);
  assert.deepEqual(seen.codecs, ["opus", "alaw", "ulaw", "dtmf", "vp8", "h264", null]);
  assert.ok(seen.global);
});
