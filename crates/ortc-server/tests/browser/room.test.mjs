// The page of a room, in several browsers at once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, until } from "./support.mjs";

/** In the page: whom it shows, once so many others' pictures move. */
const shows = async count => {
  const videos = [...document.querySelectorAll(".tile[data-picture] video")].filter(video => !video.muted);
  const live = videos.filter(video => video.currentTime > 0.5 && video.videoWidth > 0);
  return live.length === count && { state: document.getElementById("state").textContent };
};

test("two tabs of the printed address see each other within three seconds", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const first = await bench.chromium(`${server.url}/`);
  await until(first, () => document.body.dataset.state === "connected");
  const second = await first.context().newPage();
  const begun = Date.now();
  await second.goto(`${server.url}/`);
  assert.equal(first.url(), second.url());
  assert.match(second.url(), /\/r\/[0-9a-f]{16}$/);
  const seen = () => document.body.dataset.seen;
  await Promise.all([until(first, seen, null, { every: 20 }), until(second, seen, null, { every: 20 })]);
  console.log(`from both tabs opened to seeing each other: ${Date.now() - begun} ms`);
  await Promise.all([first, second].map(page => until(page, shows, 1)));
});

test("three browsers and a headless caller share a room; one leaves, one reloads", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  // Both browsers take packets that are padded to be of one size.
  const server = await bench.serve(["--padding", "16"]);
  const room = `${server.url}/r/tea`;
  const caller = bench.call(`${server.socket}/rooms/tea`, ["--play", "tone", "--play", "bars:320x180@15", "--duration", "45"]);
  const a = await bench.chromium(room);
  const b = await bench.chromium(room);
  const c = await bench.firefox(room);
  const seen = await Promise.all([a, b, c].map(page => until(page, shows, 3, { timeout: 40_000 })));
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const [padding, forwarded] = [/^ortc_padding_bytes_total (\d+)/m, /^ortc_rtp_packets_total\{what="forwarded"\} (\d+)/m].map(line => Number(line.exec(metrics)[1]));
  assert.ok(padding > 0);
  console.log(`${padding} bytes of padding in ${forwarded} forwarded packets`);
  assert.deepEqual(seen.map(({ state }) => state), Array(3).fill("Connected with 3 others"));

  await b.leave();
  await Promise.all([a, c].map(page => until(page, shows, 2)));
  await c.reload();
  await Promise.all([a, c].map(page => until(page, shows, 2, { timeout: 40_000 })));

  // A key, held with the pointer, is seen by the others.
  await a.click("#open-keypad");
  const { x, y } = await a.locator('#keys [data-digit="7"]').boundingBox();
  await a.mouse.move(x + 8, y + 8);
  await a.mouse.down();
  await new Promise(done => setTimeout(done, 200));
  await a.mouse.up();
  await a.keyboard.press("#");
  assert.match(await until(c, () => /7#/.test(document.getElementById("heard-keys").textContent) && document.getElementById("heard-keys").textContent), /^Guest \d+: 7#$/);
  // The caller tells of keys in its summary alone: the last has to have ended for it as well.
  await new Promise(done => setTimeout(done, 1_000));
  caller.interrupt();
  const summary = await caller.summary;
  assert.equal(summary.dtmf_received.map(key => key.digit).join(""), "7#");
  await Promise.all([a, c].map(page => until(page, shows, 1)));
});

test("a page whose server is killed joins the next one by itself", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const first = await bench.serve();
  const page = await bench.chromium(`${first.url}/r/tea`);
  await until(page, () => document.body.dataset.state === "connected");
  await first.kill();
  const words = await until(page, () => document.body.dataset.state === "trouble" && document.querySelector("[data-notice=call] p").textContent);
  assert.match(words, /The server does not answer/);
  const second = await bench.serve([], new URL(first.url).host);
  assert.equal(second.url, first.url);
  await until(page, () => document.body.dataset.state === "connected");
  assert.equal(await page.evaluate(() => document.querySelector("[data-notice=call]")), null);
  const caller = bench.call(`${second.socket}/rooms/tea`, ["--play", "bars:320x180@15", "--duration", "20"]);
  await until(page, shows, 1);
  caller.interrupt();
});

test("who is denied the camera can stay and watch", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const page = await bench.chromium(`${server.url}/r/tea`, { isDenied: true });
  const words = await until(page, () => document.querySelector("[data-notice^=the] p")?.textContent);
  assert.match(words, /does not let this page use camera and microphone/);
  // Whoever is alone is offered a demo peer.
  await until(page, () => !document.getElementById("alone").hidden);
  await page.click("#demo");
  await until(page, shows, 1);
  assert.equal(await page.locator("#mute span").textContent(), "No microphone");
  await page.click("#open-keypad");
  assert.ok(await page.locator('#keys [data-digit="1"]').isDisabled());
  // And it can be sent away.
  await page.click("#demo-toggle");
  await until(page, shows, 0);
});

test("a screen is shared, and its picture is another one's", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const args = ["--auto-select-desktop-capture-source=Entire screen", "--auto-accept-this-tab-capture"];
  const a = await bench.chromium(`${server.url}/r/tea`, { args });
  const b = await bench.chromium(`${server.url}/r/tea`);
  await until(b, shows, 1);
  // There is no screen here: what a page would get of one is drawn.
  await a.evaluate(() => {
    navigator.mediaDevices.getDisplayMedia = async () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
      setInterval(() => canvas.getContext("2d").fillRect(0, 0, 640, 360), 50);
      return canvas.captureStream(10);
    };
  });
  await a.click("#share");
  await until(b, shows, 2);
  const names = await b.evaluate(() => [...document.querySelectorAll(".tile .name")].map(name => name.textContent));
  assert.deepEqual(names, ["You", "Guest 1", "Guest 1’s screen"]);
  assert.equal(await b.textContent("#state"), "Connected with 1 other");
  await a.click("#share");
  await until(b, shows, 1);
  await a.click("#camera");
  await until(b, shows, 0);
  await a.click("#camera");
  await until(b, shows, 1);
});

test("a token is asked for, a page of another site is refused", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve(["--token", "s3cret"]);
  const page = await bench.chromium(`${server.url}/r/tea`);
  const refused = () => document.body.dataset.state === "refused" && document.querySelector("[data-notice=call] p").textContent;
  assert.match(await until(page, refused), /asks for an invitation/);
  await page.goto("about:blank");
  await page.goto(`${server.url}/r/tea#token=s3cret`);
  await until(page, () => document.body.dataset.state === "connected");
  const status = await fetch(`${server.url}/r/tea/demo`, { method: "POST", headers: { origin: "https://evil.example" } });
  assert.equal(status.status, 403);
});

test("nothing is loaded from elsewhere, and no script or style stands in the page", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const page = await bench.chromium("about:blank");
  const asked = [];
  page.on("request", request => asked.push(request.url()));
  const broken = [];
  page.on("console", message => { if (/Content Security Policy/.test(message.text())) broken.push(message.text()); });
  const response = await page.goto(`${server.url}/r/tea`);
  await until(page, () => document.body.dataset.state === "connected");
  assert.deepEqual(asked.filter(url => !url.startsWith(server.url) && !url.startsWith(server.socket)), []);
  assert.deepEqual(broken, []);
  assert.match(response.headers()["content-security-policy"], /^default-src 'none'; script-src 'self';/);
});
