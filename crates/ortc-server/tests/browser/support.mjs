// Real browsers and real servers for the tests. `ORTC` is the program, `BROWSER_MODULES` where
// playwright-core and puppeteer-core are installed: `cargo test` and `cargo xtask test` set both. Who
// runs a file here by hand gets those of the target directory.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const target = process.env.CARGO_TARGET_DIR ??
  join(dirname(fileURLToPath(import.meta.url)), "../../../../target");
const modules = process.env.BROWSER_MODULES ?? join(target, "browser-tests");
if (!existsSync(join(modules, "node_modules"))) {
  throw new Error(`${modules} has no browser modules: cargo xtask test --test in_browsers installs them`);
}
const require = createRequire(join(modules, "package.json"));
const { chromium } = require("playwright-core");
const puppeteer = require("puppeteer-core");

export const ORTC = process.env.ORTC ??
  ["release", "debug"].map(profile => join(target, profile, "ortc")).find(existsSync);
if (!ORTC) throw new Error(`${target} has no ortc: cargo build --release makes it`);
const find = names => names.map(name => process.env.PATH.split(":").map(dir => join(dir, name))).flat()
  .find(path => { try { return require("node:fs").statSync(path).isFile(); } catch { return false; } });

/** Options of a call that goes on until it is hung up: how long a page takes is not the caller's to know. */
export const LONG = ["--duration", "110"];

const CHROMIUM = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
  "--allow-loopback-in-peer-connection", "--autoplay-policy=no-user-gesture-required",
  // No name outside is ever looked up.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE 10.77.0.1",
];

/** The tone of Firefox's fake microphone. Where no sound card is, it has no other sound. */
export const FIREFOX_HERTZ = 700;

const decode = (source, input, options) => execFileSync("ffmpeg", ["-v", "error", "-i", source, ...options, "-"],
  { input, maxBuffer: 1 << 28 });

/** The strongest of a few frequencies in a recording: a path, or what a page has recorded. */
export function strongest(recording, candidates) {
  const [source, input] = recording.startsWith("/") ? [recording] : ["-", Buffer.from(recording, "base64")];
  const raw = decode(source, input, ["-f", "s16le", "-ac", "1", "-ar", "8000"]);
  const samples = new Int16Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + (raw.length & ~1)));
  const middle = samples.subarray(samples.length >> 2, (samples.length * 3) >> 2);
  const power = hertz => {
    let [re, im] = [0, 0];
    middle.forEach((sample, n) => {
      re += sample * Math.cos((2 * Math.PI * hertz * n) / 8000);
      im += sample * Math.sin((2 * Math.PI * hertz * n) / 8000);
    });
    return (re * re + im * im) / middle.length ** 2;
  };
  const best = candidates.reduce((best, hertz) => (power(hertz) > power(best) ? hertz : best));
  // A hundredth of full scale: silence has none.
  return power(best) > 1e4 ? best : null;
}

/** A pixel of the last picture of a recording. */
export function lastPixel(path) {
  const raw = decode(path, undefined, ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "2x2"]);
  return [...raw.subarray(raw.length - 3)];
}

/** Everything that a test starts, to be ended with it. */
export class Bench {
  #ends = [];

  constructor(t) {
    t.after(async () => { for (const end of this.#ends.reverse()) await end(); });
  }

  scratch() {
    const path = mkdtempSync(join(tmpdir(), "ortc-browser-"));
    this.#ends.push(() => rmSync(path, { recursive: true, force: true }));
    return path;
  }

  /** `ortc serve`; its `url`, and `kill()`. */
  async serve(options = [], listen = "127.0.0.1:0") {
    const source = process.env.PAGE_SOURCE ? ["--page-source", process.env.PAGE_SOURCE] : [];
    const process_ = spawn(ORTC, ["serve", "--listen", listen, ...source, ...options], { stdio: ["ignore", "pipe", "inherit"] });
    const ended = new Promise(done => process_.on("exit", done));
    const url = await new Promise((done, failed) => {
      let text = "";
      process_.stdout.on("data", data => {
        text += data;
        if (text.includes("\n")) done(text.split("\n")[0]);
      });
      ended.then(() => failed(new Error("the server has ended")));
    });
    const kill = async (signal = "SIGKILL") => {
      process_.kill(signal);
      await ended;
    };
    this.#ends.push(() => kill());
    return { url, socket: url.replace(/^http/, "ws"), kill };
  }

  /**
   * `ortc call`: its summary, once it has ended, and its exit code beside. One that is to go on for as
   * long as the page needs it has `LONG` options, and is hung up.
   */
  call(signal, options) {
    const process_ = spawn(ORTC, ["call", "--signal", signal, "--json", ...options], { stdio: ["ignore", "pipe", "ignore"] });
    let text = "";
    process_.stdout.on("data", data => { text += data; });
    const ended = new Promise(done => process_.on("close", done));
    this.#ends.push(async () => { process_.kill("SIGKILL"); await ended; });
    return {
      /** With `--stats` there are lines before it. */
      get summary() {
        return ended.then(code => {
          const lines = text.trim().split("\n").map(line => JSON.parse(line));
          return { code, ...lines.pop(), lines };
        });
      },
      /** Ends it, before it would have by itself; its summary, which has nothing else to complain of. */
      async hangUp() {
        process_.kill("SIGINT");
        const summary = await this.summary;
        assert.match(summary.error, /^interrupted after /);
        assert.deepEqual(summary.warnings, []);
        return summary;
      },
    };
  }

  /** A page of Chromium or Firefox. */
  async page(kind, url, options = {}) {
    return kind === "firefox" ? this.firefox(url, options) : this.chromium(url, options);
  }

  async chromium(url, { isDenied = false, executablePath = find(["chromium", "chromium-browser", "google-chrome"]), args = [], ...context } = {}) {
    const ask = isDenied ? "--deny-permission-prompts" : "--use-fake-ui-for-media-stream";
    const browser = await chromium.launch({ executablePath, args: [...CHROMIUM, ask, ...args] });
    this.#ends.push(() => browser.close());
    const page = await (await browser.newContext(context)).newPage();
    watch(page);
    await page.goto(url);
    return Object.assign(page, { leave: () => browser.close() });
  }

  async firefox(url, { executablePath = find(["firefox-esr", "firefox"]) } = {}) {
    const browser = await puppeteer.launch({
      browser: "firefox", executablePath, headless: true,
      extraPrefsFirefox: {
        "media.navigator.streams.fake": true,
        "media.navigator.permission.disabled": true,
        "media.peerconnection.ice.loopback": true,
        "media.peerconnection.ice.obfuscate_host_addresses": false,
        "media.autoplay.default": 0,
        "media.navigator.audio.fake_frequency": FIREFOX_HERTZ,
      },
    });
    this.#ends.push(() => browser.close());
    const page = await browser.newPage();
    watch(page);
    await page.goto(url);
    return Object.assign(page, { leave: () => browser.close() });
  }
}

/** What goes wrong in a page is seen in the test's output. */
function watch(page) {
  page.on("pageerror", error => console.error("in the page:", error));
  page.on("console", message => { if (message.type() === "error") console.error("in the page:", message.text()); });
}

/** What functions in a page build on. */
function equip() {
  /** The browser's own connections that are made from now on. */
  globalThis.watchConnections = () => {
    const made = [];
    const Native = RTCPeerConnection;
    globalThis.RTCPeerConnection = class extends Native {
      constructor(...all) { super(...all); made.push(this); }
      static generateCertificate(...all) { return Native.generateCertificate(...all); }
    };
    return made;
  };
  /**
   * Has what encodes pictures for these connections leave them as large as they are, however busy the
   * machine is, and take what is said of its first encoding; tells whether it has: it may have to be tried again.
   */
  globalThis.keepSize = async (made, encoding = {}) => {
    const senders = made.flatMap(pc => pc.getSenders()).filter(({ track }) => track?.kind === "video");
    let kept = 0;
    for (const sender of senders) {
      const parameters = sender.getParameters();
      if (!parameters.encodings?.length) continue;
      parameters.degradationPreference = "maintain-resolution";
      Object.assign(parameters.encodings[0], encoding);
      try {
        await sender.setParameters(parameters);
      } catch (error) {
        // The page has changed them meanwhile.
        if (error.name === "InvalidStateError") return false;
        throw error;
      }
      kept++;
    }
    return kept > 0;
  };
  /**
   * Introduces a connection to whoever is in the room or pair, and receives what is described. `first` is
   * said before all else; candidates that `admits` refuses are neither told nor taken; what it returns
   * says more.
   */
  globalThis.signalTo = (conn, signal, { first = [], admits = () => true, onTrack = () => {} } = {}) => {
    const socket = new WebSocket(signal);
    const early = [];
    const say = message => (socket.readyState === 1 ? socket.send(JSON.stringify(message)) : early.push(message));
    socket.onopen = () => early.splice(0).forEach(say);
    socket.onmessage = ({ data }) => {
      const { iceInfo, candidate, track } = JSON.parse(data);
      if (iceInfo) {
        Object.assign(conn.remote.ice, iceInfo);
        conn.connect();
      }
      if (candidate && admits(candidate, "theirs")) conn.setRemoteCandidate(candidate);
      if (track) {
        onTrack(track);
        conn.receiveTrack(track);
      }
    };
    first.forEach(say);
    say({ iceInfo: conn.local.ice });
    conn.oncandidate = ({ candidate }) => { if (admits(candidate, "ours")) say({ candidate }); };
    return say;
  };
}

/** Runs a function in the page that uses `watchConnections`, `keepSize` or `signalTo`. */
export async function equipped(page, what, argument) {
  await page.evaluate(equip);
  return page.evaluate(what, argument);
}

/** Waits until a function in the page gives something; returns that. */
export async function until(page, what, argument, { timeout = 60_000, every = 100 } = {}) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const value = await page.evaluate(what, argument);
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${timeout} ms: ${what}`);
    await new Promise(done => setTimeout(done, every));
  }
}
