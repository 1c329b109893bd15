// Pictures in several encodings: a page of a room sends them, and each of the others gets its own.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, until } from "./support.mjs";

/** In the page: the width of the picture of somebody else, while it moves. */
const width = () => {
  const video = [...document.querySelectorAll(".tile[data-picture] video")].find(it => !it.muted);
  return video && video.currentTime > 0.5 && video.videoWidth;
};

/** In the page: the same, once it is between these two. */
const isBetween = ([least, most]) => {
  const video = [...document.querySelectorAll(".tile[data-picture] video")].find(it => !it.muted);
  const found = video?.videoWidth;
  return found >= least && found <= most && found;
};

for (const kind of ["chromium", "firefox"]) {
  test(`two who watch the camera of ${kind} get pictures of the size that each has room for`, { timeout: 240_000 }, t => watch(t, kind));
}

async function watch(t, kind) {
  const bench = new Bench(t);
  const server = await bench.serve();
  const room = `${server.url}/r/tea`;
  const camera = await bench.page(kind, room);
  await until(camera, () => document.body.dataset.state === "connected");
  const large = await bench.chromium(room, { isDenied: true });
  // Whoever sends in several encodings is told of new tracks as well, and shows them.
  const small = await bench.chromium(room, { isDenied: kind === "chromium" });
  await Promise.all([large, small].map(page => until(page, width)));
  // Whoever enlarges another picture shows this one small, and asks for no more than that.
  if (kind === "firefox") await until(camera, width);
  await small.evaluate(() => document.querySelectorAll(".tile .pin")[0].click());
  const narrow = await until(small, isBetween, [1, 400]);
  const wide = await until(large, isBetween, [600, 4_000]);
  console.log(`${wide} and ${narrow} pixels wide`);
  assert.equal(await small.evaluate(isBetween, [1, 400]), narrow);
  // The text beside the name says so too.
  const words = await small.evaluate(() => [...document.querySelectorAll(".size")].map(it => it.textContent).join(" "));
  assert.match(words, new RegExp(`${narrow} × \\d+`));
  // Enlarged again, it is as large as it was.
  await small.evaluate(() => document.querySelectorAll(".tile .pin")[0].click());
  await until(small, isBetween, [600, 4_000]);
}
