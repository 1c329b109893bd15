// The page of a room, in several browsers at once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, LONG, until } from "./support.mjs";

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
  const caller = bench.call(`${server.socket}/rooms/tea`, ["--play", "tone", "--play", "bars:320x180@15", ...LONG]);
  const a = await bench.chromium(room);
  const b = await bench.chromium(room);
  const c = await bench.firefox(room);
  const seen = await Promise.all([a, b, c].map(page => until(page, shows, 3)));
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const [padding, forwarded] = [/^ortc_padding_bytes_total (\d+)/m, /^ortc_rtp_packets_total\{what="forwarded"\} (\d+)/m].map(line => Number(line.exec(metrics)[1]));
  assert.ok(padding > 0);
  console.log(`${padding} bytes of padding in ${forwarded} forwarded packets`);
  assert.deepEqual(seen.map(({ state }) => state), Array(3).fill("Connected with 3 others"));

  await b.leave();
  await Promise.all([a, c].map(page => until(page, shows, 2)));
  await c.reload();
  await Promise.all([a, c].map(page => until(page, shows, 2)));

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
  const summary = await caller.hangUp();
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
  const caller = bench.call(`${second.socket}/rooms/tea`, ["--play", "bars:320x180@15", ...LONG]);
  await until(page, shows, 1);
  await caller.hangUp();
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
  assert.equal(await page.locator("#mute span").textContent(), "No mic");
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

test("on the smallest phone every control is to be seen, and whoever has left finds the way back", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const page = await bench.chromium(`${server.url}/r/tea`, { viewport: { width: 320, height: 568 } });
  await until(page, () => document.body.dataset.state === "connected");
  await page.click("#demo");
  await until(page, shows, 1);
  const cutOff = () => {
    const visible = [...document.querySelectorAll(".controls button")].filter(button => button.offsetWidth > 0);
    const isCut = button => {
      const { left, right } = button.getBoundingClientRect();
      return left < 0 || right > innerWidth || button.scrollWidth > button.clientWidth;
    };
    return { count: visible.length, cut: visible.filter(isCut).map(({ id }) => id) };
  };
  assert.deepEqual(await page.evaluate(cutOff), { count: 8, cut: [] });
  assert.equal(await page.locator(".pin").nth(1).textContent(), "Enlarge Guest 1");

  // A key is pressed once, whether by the keyboard or by a screen reader, which knows clicks alone.
  await page.click("#open-keypad");
  await page.locator('#keys [data-digit="5"]').focus();
  await page.keyboard.press("Enter", { delay: 120 });
  await page.keyboard.press(" ", { delay: 120 });
  await page.locator('#keys [data-digit="9"]').evaluate(button => button.click());
  await until(page, () => document.getElementById("sent-keys").textContent === "559");

  await page.click("#open-figures");
  await until(page, () => /\d bit|\d kbit/.test(document.getElementById("now").textContent));
  await server.kill();
  // What was is not told as how it goes.
  await until(page, () => !/bit/.test(document.getElementById("now").textContent) && !document.querySelector("#tracks td"));

  await page.click("#leave");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Join again");
  assert.ok(await page.locator(".controls button").evaluateAll(buttons => buttons.every(button => button.disabled)));
});

test("a page works where nothing may be kept, no screen be shared, and the browser asks for long", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const page = await bench.chromium("about:blank");
  await page.addInitScript(() => {
    const refuse = () => { throw new DOMException("not here", "SecurityError"); };
    Object.defineProperty(globalThis, "localStorage", { get: refuse });
    delete MediaDevices.prototype.getDisplayMedia;
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async want => {
      await new Promise(answered => { globalThis.answer = answered; });
      globalThis.given = await ask(want);
      return globalThis.given;
    };
  });
  await page.goto(`${server.url}/r/tea`);
  // Nobody waits for the answer.
  await until(page, () => document.body.dataset.state === "connected");
  assert.ok(await page.locator("#share").isHidden());
  await page.click("#leave");
  await page.evaluate(() => globalThis.answer());
  await until(page, () => globalThis.given?.getTracks().every(track => track.readyState === "ended"));
});

test("a page that was opened by a name the server does not know says what to do", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  const server = await bench.serve();
  const { port } = new URL(server.url);
  const page = await bench.chromium(`http://meet.test:${port}/r/tea`, { args: ["--host-resolver-rules=MAP meet.test 127.0.0.1"] });
  const refused = await until(page, () => /takes no call/.test(document.querySelector("[data-notice=call]")?.textContent) && document.querySelector("[data-notice=call] p").textContent);
  assert.match(refused, new RegExp(`--origin http://meet\\.test:${port}, `));
  // And it goes on saying so, and nothing else, each time that it has tried again.
  await page.evaluate(() => {
    globalThis.told = [];
    const notices = document.getElementById("notices");
    new MutationObserver(() => told.push(notices.textContent)).observe(notices, { childList: true, subtree: true });
  });
  const told = await until(page, () => told.length >= 2 && told);
  assert.ok(told.every(text => text.includes(refused)), `${told}`);
  await server.kill();
  await until(page, () => /does not answer/.test(document.querySelector("[data-notice=call]").textContent));
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
  // What the start page says to type is for this server, and has the invitation in it.
  await page.goto("about:blank");
  await page.goto(`${server.url}/start#token=s3cret`);
  const commands = await page.locator("pre").allTextContents();
  assert.equal(commands[0], `ortc call --signal ${server.socket}/rooms/tea?token=s3cret --play speech.ogg --record heard --duration 20`);
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
