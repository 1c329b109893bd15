// A page and a Rust peer: sound of a known tone and pictures of a known colour both ways, with both
// versions of DTLS and in both of its roles.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, FIREFOX_HERTZ, LONG, equipped, lastPixel, strongest } from "./support.mjs";

/**
 * In the page: a call with whoever is in the pair, until so many keys have come and ours are sent, and
 * for some seconds after that; what was seen and heard.
 */
const call = async ({ signal, first, seconds, keys, awaited, hertz }) => {
  // Who is smaller is the DTLS client: the first letter decides, against a random one.
  const random = crypto.getRandomValues.bind(crypto);
  crypto.getRandomValues = array => {
    random(array);
    if (array.length === 30) array.fill(first, 0, 6);
    return array;
  };
  // What a page is not told by our interface: which DTLS it is.
  const made = watchConnections();
  const { RTCConnection, DTMFMediaStreamTrack } = await import("/ortc.js");
  crypto.getRandomValues = random;

  const conn = new RTCConnection();
  const say = signalTo(conn, signal);
  const added = new Promise(done => { conn.onaddstream = ({ stream }) => done(stream); });
  const [heard, sent] = [[], []];
  const pressed = new Promise(done => {
    conn.onadddtmfhandler = ({ handler }) => {
      handler.ondtmf = ({ tone }) => { if (heard.push(tone) === awaited) done(); };
    };
  });

  // Firefox has no sound of its own making where no sound card is; its fake microphone has.
  let sound;
  if (navigator.userAgent.includes("Firefox")) {
    sound = await navigator.mediaDevices.getUserMedia({ audio: true });
  } else {
    const context = new AudioContext();
    const [oscillator, out] = [context.createOscillator(), context.createMediaStreamDestination()];
    oscillator.frequency.value = hertz;
    oscillator.connect(out);
    oscillator.start();
    sound = out.stream;
  }
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
  const draw = canvas.getContext("2d");
  setInterval(() => {
    draw.fillStyle = "#c00000";
    draw.fillRect(0, 0, 320, 240);
  }, 50);
  const stream = new MediaStream([...sound.getTracks(), ...canvas.captureStream(15).getTracks()]);
  const tones = new DTMFMediaStreamTrack();
  stream.addTrack(tones);
  conn.addStream(stream);
  for (const track of conn.tracks()) say({ track: track.getDescription() });
  const played = new Promise(done => {
    tones.ontone = ({ tone }) => { if (sent.push(tone) === keys.length) done(); };
  });
  tones.play(keys);

  const remote = await added;
  const video = Object.assign(document.createElement("video"), { srcObject: remote });
  // Sound that nobody plays is not rendered.
  await video.play();
  await Promise.all([pressed, played]);
  const recorder = new MediaRecorder(new MediaStream(remote.getTracks().filter(track => track.kind === "audio")));
  const recorded = new Promise(done => { recorder.ondataavailable = ({ data }) => done(data); });
  recorder.start();
  await new Promise(later => setTimeout(later, seconds * 1000));
  recorder.stop();
  const bytes = new Uint8Array(await (await recorded).arrayBuffer());
  const pixels = new OffscreenCanvas(video.videoWidth, video.videoHeight).getContext("2d");
  pixels.drawImage(video, 0, 0);
  const bars = [0, 1, 2, 3, 4, 5, 6, 7].map(n =>
    [...pixels.getImageData(((n + 0.5) * video.videoWidth) / 8, video.videoHeight / 4, 1, 1).data.slice(0, 3)]);
  const pc = made.find(pc => pc.connectionState === "connected");
  const transport = [...(await pc.getStats()).values()].find(stats => stats.type === "transport");
  const { tlsVersion = null, dtlsRole = null } = transport ?? {};
  return {
    sound: btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join("")), bars, heard: heard.join(""), tlsVersion, dtlsRole,
    first: conn.local.ice.usernameFrag[0], path: conn.state,
  };
};

const ROLES = { "as the DTLS client": 62, "as the DTLS server": 51 };

for (const kind of ["chromium", "firefox"]) {
  for (const dtls of ["1.2", "1.3"]) {
    for (const [role, first] of Object.entries(ROLES)) {
      test(`${kind} ${role} of ${dtls} and a Rust peer see and hear each other`, { timeout: 120_000 }, async t => {
        const bench = new Bench(t);
        const server = await bench.serve();
        const record = bench.scratch();
        const signal = `${server.socket}/pairs/rust`;
        const page = await bench.page(kind, `${server.url}/start`);
        const caller = bench.call(signal, [
          "--play", "tone:440", "--play", "bars:320x180@15", "--record", record, ...LONG, "--dtls", dtls,
          "--dtmf", ",159D",
        ]);
        const seen = await equipped(page, call, { signal, first, seconds: 3, keys: "0*#A", awaited: 4, hertz: FIREFOX_HERTZ });
        const summary = await caller.hangUp();

        assert.equal(seen.first, first === 62 ? "+" : "z");
        assert.equal(strongest(seen.sound, [350, 440, 550, 700]), 440);
        seen.bars.forEach((bar, n) => {
          const expected = [n % 4 < 2, n < 4, n % 2 === 0].map(isLit => (isLit ? 191 : 0));
          assert.ok(bar.every((value, c) => Math.abs(value - expected[c]) < 30), `bar ${n} is ${bar}`);
        });
        assert.equal(seen.heard, "159D");
        assert.equal(summary.dtmf_received.map(key => key.digit).join(""), "0*#A");
        // Chromium tells: FEFC is 1.3, FEFD 1.2.
        if (seen.tlsVersion) assert.equal(seen.tlsVersion, dtls === "1.3" ? "FEFC" : "FEFD");
        if (seen.dtlsRole) assert.equal(seen.dtlsRole, first === 62 ? "client" : "server");
        const track = kind => summary.received.find(track => track.kind === kind);
        assert.equal(strongest(track("audio").file, [440, 600, 700, 800, 1000]), FIREFOX_HERTZ);
        const [red, green, blue] = lastPixel(track("video").file);
        assert.ok(Math.abs(red - 192) < 30 && green < 30 && blue < 30, `${[red, green, blue]}`);
        assert.equal(track("video").undecodable, 0);
      });
    }
  }
}
