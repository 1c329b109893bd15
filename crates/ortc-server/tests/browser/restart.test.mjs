// ICE restarts in the middle of a call: of a Rust peer, which a page follows, and of a page, which a
// Rust peer and another page follow. Media goes on, on a path of the newest credentials.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, LONG, equipped } from "./support.mjs";

/**
 * In the page: a call with whoever is in the pair; what became of it. It goes on for so many seconds
 * at least, and until so many restarts were made here and so many of the peer followed.
 */
const call = async ({ signal, seconds, restartEvery = null, restarts = 0, follows = 0 }) => {
  const made = watchConnections();
  const { RTCConnection } = await import("/ortc.js");
  const conn = new RTCConnection();
  const told = [];
  for (const type of ["connected", "disconnected", "error"]) {
    conn.addEventListener(type, ({ reason, error }) => told.push([type, reason ?? error?.message].filter(Boolean).join(" ")));
  }
  const early = (() => { try { conn.restartIce(); return "nothing"; } catch (error) { return error.name; } })();
  const say = signalTo(conn, signal);
  // By the peer's credentials: the ports that this side had with them, and the one in use at last.
  const generations = new Map();
  const generation = () => {
    const frag = conn.remote.ice.usernameFrag;
    if (!generations.has(frag)) generations.set(frag, { found: [], used: null });
    return generations.get(frag);
  };
  conn.addEventListener("candidate", ({ candidate }) => generation().found.push(candidate.connectionPort));
  let renewed = 0;
  conn.onicerestart = ({ ice }) => {
    renewed++;
    say({ iceInfo: ice });
  };
  const added = new Promise(done => { conn.onaddstream = ({ stream }) => done(stream); });
  conn.addStream(await navigator.mediaDevices.getUserMedia({ audio: true, video: true }));
  for (const track of conn.tracks()) say({ track: track.getDescription() });
  const video = Object.assign(document.createElement("video"), { srcObject: await added, muted: true });
  await video.play();

  const sleep = ms => new Promise(later => setTimeout(later, ms));
  const read = async () => {
    // Whatever its state: it may be restarting.
    const report = await made.find(pc => pc.remoteDescription).getStats();
    const all = [...report.values()];
    const transport = all.find(stats => stats.type === "transport");
    const pair = report.get(transport?.selectedCandidatePairId) ?? all.find(stats => stats.type === "candidate-pair" && stats.selected);
    return { all, ends: [pair?.localCandidateId, pair?.remoteCandidateId].map(id => report.get(id)) };
  };
  const newest = () => [conn.local.ice.usernameFrag, conn.remote.ice.usernameFrag];
  /** Notes which port is in use, if no restart comes meanwhile; tells whether the newest credentials are. */
  const look = async () => {
    const before = newest();
    const { ends } = await read();
    if (`${newest()}` !== `${before}`) return false;
    generation().used = ends[0]?.port;
    return `${ends.map(end => end?.usernameFragment)}` === `${before}`;
  };
  const frags = new Set();
  const passed = [];
  const end = performance.now() + seconds * 1000;
  for (let next = performance.now() + 1000; performance.now() < end || passed.length < restarts || frags.size <= follows; await sleep(50)) {
    frags.add(conn.remote.ice.usernameFrag);
    await look();
    if (!restartEvery || performance.now() < next || passed.length === restarts) continue;
    next += restartEvery;
    const before = conn.local;
    const ice = conn.restartIce();
    passed.push(ice === conn.local.ice && ice.usernameFrag !== before.ice.usernameFrag &&
      ice.password !== before.ice.password && ice.fingerprint === before.ice.fingerprint);
    say({ iceInfo: ice });
  }
  // The last restart may be on its way. Firefox does not tell fragments.
  const isTold = restartEvery !== null;
  const late = performance.now() + 20_000;
  let isNewest = await look();
  for (; isTold && !isNewest && performance.now() < late; isNewest = await look()) await sleep(50);
  const { all } = await read();
  const inbound = all.filter(stats => stats.type === "inbound-rtp" && stats.packetsReceived);
  const sum = what => inbound.reduce((sum, stats) => sum + (stats[what] ?? 0), 0);
  return {
    told, early, renewed, restarts: passed, kinds: inbound.map(({ kind }) => kind).sort(), state: conn.state,
    received: sum("packetsReceived"), lost: sum("packetsLost"), followed: frags.size - 1,
    isNewest, generations: [...generations],
  };
};

/**
 * By its own credentials, the ports of the page that a Rust peer was on when it was asked last, before
 * it restarted again.
 */
function portsOf(lines) {
  const ports = {};
  for (const { stats } of lines) {
    const transport = stats.find(it => it.type === "transport");
    const pair = stats.find(it => it.id === transport?.selectedCandidatePairId);
    const remote = stats.find(it => it.id === pair?.remoteCandidateId);
    if (remote) ports[transport.iceLocalUsernameFragment] = remote.port;
  }
  return ports;
}

/** What is missed when the path changes is little, however busy the machine is. */
function assertGoesOn(seen, lost, received, t, whose) {
  t.diagnostic(`${whose} has missed ${lost} of ${received + lost} packets`);
  assert.ok(received > 500, `${received}`);
  assert.ok(lost <= received / 33, `${lost} of ${received}`);
  assert.deepEqual(seen.told, ["connected"]);
  assert.equal(seen.state, "connected");
  assert.deepEqual(seen.kinds, ["audio", "video"]);
}

for (const kind of ["chromium", "firefox"]) {
  // Longer than consent lasts (30 s): who has followed nothing has no path by then.
  const name = kind === "chromium" ? "and a Rust peer follow each other" : "follows a Rust peer";
  test(`${kind} ${name} through restarts of ICE`, { timeout: 120_000 }, async t => {
    const bench = new Bench(t);
    const server = await bench.serve();
    const signal = `${server.socket}/pairs/restarts`;
    const page = await bench.page(kind, `${server.url}/start`);
    const caller = bench.call(signal, [
      "--play", "tone:440", "--play", "bars:320x180@15", ...LONG, "--restart-ice", "6", "--stats", "0.2",
    ]);
    const own = kind === "chromium" ? { restartEvery: 9_500, restarts: 4 } : {};
    const seen = await equipped(page, call, { signal, seconds: 35, follows: 6, ...own });
    const summary = await caller.hangUp();
    assertGoesOn(seen, seen.lost, seen.received, t, "the page");
    assert.ok(seen.followed >= 6, `${seen.followed} restarts followed`);
    const missed = summary.received.reduce((sum, { lost }) => sum + lost, 0);
    const came = summary.received.reduce((sum, { packets }) => sum + packets, 0);
    assertGoesOn(seen, missed, came, t, "the Rust peer");
    if (kind === "chromium") {
      assert.equal(seen.early, "InvalidStateError");
      assert.equal(seen.renewed, 0);
      assert.ok(seen.restarts.length === 4 && seen.restarts.every(Boolean), `${seen.restarts}`);
      assert.ok(seen.isNewest, "a path of the newest credentials is in use");
    } else {
      assert.equal(seen.early, "NotSupportedError");
      assert.equal(seen.renewed, seen.followed);
      // Each restart has brought a path of its own, and the peer has gone there and stayed: but for the
      // first credentials, which bring none, and the last, in the middle of which the call has ended.
      const ports = portsOf(summary.lines);
      const whole = seen.generations.filter(([frag]) => frag).slice(1, -1);
      assert.ok(whole.length >= 5, `${whole.length} generations`);
      for (const [frag, { found, used }] of whole) {
        t.diagnostic(`${used} of ${found}; the peer is on ${ports[frag]}`);
        assert.ok(found.includes(used), `${used} is none of ${found}`);
        assert.equal(ports[frag], used);
      }
    }
  });
}

test("firefox follows a page of chromium through restarts of ICE", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const signal = `${server.socket}/pairs/pages`;
  const pages = await Promise.all(["chromium", "firefox"].map(kind => bench.page(kind, `${server.url}/start`)));
  const [one, other] = await Promise.all(pages.map((page, n) =>
    equipped(page, call, { signal, seconds: 20, ...(n === 0 ? { restartEvery: 5_000, restarts: 4 } : {}), follows: 4 })));
  for (const [seen, whose] of [[one, "chromium"], [other, "firefox"]]) assertGoesOn(seen, seen.lost, seen.received, t, whose);
  assert.deepEqual(one.restarts, Array(4).fill(true));
  assert.equal(other.renewed, one.restarts.length);
  assert.equal(one.followed, other.renewed);
});
