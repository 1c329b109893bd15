// Pictures of the page in its states, to be looked at: `node shots.mjs DIRECTORY`.

import { join } from "node:path";
import { Bench, until } from "./support.mjs";

const [directory = "."] = process.argv.slice(2);
const ends = [];
const bench = new Bench({ after: end => ends.push(end) });
const server = await bench.serve();
const shot = async (page, name) => page.screenshot({ path: join(directory, `${name}.png`) });
const size = { viewport: { width: 1280, height: 800 } };
const connected = page => until(page, () => document.body.dataset.state === "connected");

const a = await bench.chromium(`${server.url}/r/alone`, size);
await connected(a);
await until(a, () => document.querySelector(".tile[data-picture]"));
await shot(a, "1-alone");
const dark = await bench.chromium(`${server.url}/r/tea`, { ...size, colorScheme: "dark" });
const phone = await bench.chromium(`${server.url}/r/tea`, { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2 });
await connected(dark);
await dark.click("#demo-toggle");
await bench.firefox(`${server.url}/r/tea`);
await until(dark, () => document.querySelectorAll(".tile[data-picture]").length === 4);
await dark.click("#open-figures");
await new Promise(done => setTimeout(done, 12_000));
await shot(dark, "2-figures-dark");
await dark.click("#open-keypad");
await phone.click("#open-keypad");
await phone.keyboard.press("4");
await phone.keyboard.press("2");
await until(dark, () => document.getElementById("heard-keys").textContent);
await shot(dark, "3-keypad-dark");
await shot(phone, "4-phone-keypad");
await phone.click("[data-close=keypad]");
await shot(phone, "5-phone");
const denied = await bench.chromium(`${server.url}/r/tea`, { ...size, isDenied: true });
await until(denied, () => document.querySelector("[data-notice^=the]"));
await until(denied, () => document.querySelectorAll(".tile[data-picture]").length === 4);
await denied.locator(".tile .pin").nth(1).click();
await shot(denied, "6-denied-enlarged");
await server.kill();
await until(denied, () => document.body.dataset.state === "trouble");
await shot(denied, "7-server-gone");
for (const end of ends.reverse()) await end();
