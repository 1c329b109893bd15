// The page over https and wss, with a certificate that the test has made: `TLS_CERT`, `TLS_KEY`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, until } from "./support.mjs";

test("a page over https calls over wss, and a demo peer finds its way in", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const { TLS_CERT, TLS_KEY } = process.env;
  const server = await bench.serve(["--tls-cert", TLS_CERT, "--tls-key", TLS_KEY, "--token", "s3cret"]);
  assert.match(server.url, /^https:\/\/127\.0\.0\.1:\d+$/);
  const page = await bench.chromium("about:blank", { ignoreHTTPSErrors: true });
  await page.goto(`${server.url}/r/tea#token=s3cret`);
  await until(page, () => document.body.dataset.state === "connected");
  await page.click("#demo");
  await until(page, () => [...document.querySelectorAll(".tile[data-picture] video")].some(video => !video.muted && video.currentTime > 0.5));
});
