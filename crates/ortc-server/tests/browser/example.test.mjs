// The drafts' own example, page to page, through the WebSocket of a pair.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Bench, until } from "./support.mjs";

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
    const seen = await Promise.all(open.map(page => until(page, async () => {
      const view = document.getElementById("remoteView");
      if (!view?.videoWidth || view.currentTime < 1) return null;
      const { tracks } = await window.connection.getStats();
      const came = tracks.filter(track => track.direction === "receiving");
      if (came.length < 2 || !came.every(track => track.packets > 20)) return null;
      return { logged: window.logged ?? [], state: window.connection.state, codecs: came.map(track => track.codec).sort() };
    })));
    for (const one of seen) {
      assert.deepEqual(one, { logged: [], state: "connected", codecs: ["opus", "vp8"] });
    }
  });
}
