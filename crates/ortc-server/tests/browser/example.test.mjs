// The drafts' own example, page to page and page to a Rust peer, through the WebSocket of a pair.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Bench, LONG, until } from "./support.mjs";

const EXAMPLE = readFileSync(new URL("example.html", import.meta.url), "utf8");

/** Serves the example beside a server's `ortc.js`: what else is asked for comes from there. */
async function serveExample(t, url) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, url);
    const isExample = pathname === "/example.html";
    const from = isExample ? null : await fetch(url + pathname);
    response.setHeader("content-type", isExample ? "text/html; charset=utf-8" : from.headers.get("content-type"));
    response.end(isExample ? EXAMPLE : await from.text());
  });
  await new Promise(done => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

/** What the page of the example has got once sound and pictures come. */
const received = page => until(page, async () => {
  const view = document.getElementById("remoteView");
  if (!view?.videoWidth || view.currentTime < 1) return null;
  const { tracks } = await window.connection.getStats();
  const came = tracks.filter(track => track.direction === "receiving");
  if (came.length < 2 || !came.every(track => track.packets > 20)) return null;
  return { logged: window.logged ?? [], state: window.connection.state, codecs: came.map(track => track.codec).sort() };
});

const ALL = { logged: [], state: "connected", codecs: ["opus", "vp8"] };

for (const [first, second] of [["chromium", "chromium"], ["chromium", "firefox"]]) {
  test(`the example connects ${first} and ${second}`, { timeout: 120_000 }, async t => {
    const bench = new Bench(t);
    const server = await bench.serve();
    const pages = await serveExample(t, server.url);
    const signal = encodeURIComponent(`${server.socket}/pairs/example`);
    // One of them starts, the other when it is called: nobody is the offerer.
    const open = [
      await bench.page(first, `${pages}/example.html?signal=${signal}`),
      await bench.page(second, `${pages}/example.html?wait&signal=${signal}`),
    ];
    const seen = await Promise.all(open.map(received));
    for (const one of seen) assert.deepEqual(one, ALL);
  });
}

for (const kind of ["chromium", "firefox"]) {
  test(`the example connects ${kind} and a Rust peer`, { timeout: 120_000 }, async t => {
    const bench = new Bench(t);
    const server = await bench.serve();
    const pages = await serveExample(t, server.url);
    const pair = `${server.socket}/pairs/example`;
    const record = bench.scratch();
    const speech = fileURLToPath(new URL("../../../../tests/media/speech.ogg", import.meta.url));
    const caller = bench.call(pair, ["--play", speech, "--play", "bars:320x180@15", "--record", record, ...LONG]);
    const page = await bench.page(kind, `${pages}/example.html?signal=${encodeURIComponent(pair)}`);
    assert.deepEqual(await received(page), ALL);
    const summary = await caller.hangUp();
    const came = summary.received.map(({ kind, codec, undecodable }) => [kind, codec.toLowerCase(), undecodable]).sort();
    assert.deepEqual(came, [["audio", "opus", 0], ["video", "vp8", 0]]);
  });
}
