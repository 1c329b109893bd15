// A call over a network that loses one packet in twenty each way: two hosts, which are two network
// namespaces. Started in a namespace of its own, in which it may do so.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Bench, LONG, until } from "./support.mjs";

const run = (...command) => execFileSync(command[0], command.slice(1), { stdio: ["ignore", "ignore", "inherit"] });

/** In that host: each packet that comes in over the link is lost with this chance. */
const lossy = (enter, device, percent) => run(...enter, "nft", `add table netdev lossy; \
add chain netdev lossy in { type filter hook ingress device "${device}" priority 0; }; \
add rule netdev lossy in meta l4proto udp numgen random mod 100 < ${percent} counter drop`);

test("a page far away is seen and heard though one packet in twenty is lost", { timeout: 120_000 }, async t => {
  const bench = new Bench(t);
  // The other host lives as long as this process.
  const host = spawn("unshare", ["--net", "--", "sleep", "1000"], { stdio: "ignore" });
  t.after(() => host.kill("SIGKILL"));
  const inside = ["nsenter", "--target", `${host.pid}`, "--net", "--"];
  const own = execFileSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" });
  for (;;) {
    const theirs = execFileSync("readlink", [`/proc/${host.pid}/ns/net`], { encoding: "utf8" });
    if (theirs !== own) break;
  }
  run("ip", "link", "set", "lo", "up");
  run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", `${host.pid}`);
  run("ip", "addr", "add", "10.77.0.1/24", "dev", "here");
  run("ip", "link", "set", "here", "up");
  run(...inside, "ip", "addr", "add", "10.77.0.2/24", "dev", "there");
  run(...inside, "ip", "link", "set", "there", "up");
  run(...inside, "ip", "link", "set", "lo", "up");
  run(...inside, "ip", "route", "add", "default", "via", "10.77.0.1");
  lossy([], "here", 5);
  lossy(inside, "there", 5);

  const server = await bench.serve([], "10.77.0.1:0");
  const caller = bench.call(`${server.socket}/rooms/far`, ["--play", "tone", "--play", "bars:320x180@15", "--record", bench.scratch(), ...LONG]);
  const there = join(bench.scratch(), "chromium");
  writeFileSync(there, `#!/bin/sh\nexec ${inside.join(" ")} chromium "$@"\n`);
  chmodSync(there, 0o755);
  // Camera and microphone are for pages over https, or of an origin that is told to be as good.
  const args = [`--unsafely-treat-insecure-origin-as-secure=${server.url}`];
  const page = await bench.chromium("about:blank", { executablePath: there, args });
  await page.addInitScript(() => {
    window.connections = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...options) {
        super(...options);
        window.connections.push(this);
      }
    };
  });
  await page.goto(`${server.url}/r/far`);
  await until(page, () => [...document.querySelectorAll(".tile[data-picture] video")].some(video => !video.muted && video.currentTime > 1));
  await page.click("#open-figures");
  const lost = await until(page, () => {
    const [, , cell] = document.querySelectorAll("#now dd");
    return parseFloat(cell?.textContent) > 0.5 && parseFloat(cell.textContent);
  });
  assert.ok(lost < 30, `${lost} %`);
  const before = await page.evaluate(() => [...document.querySelectorAll(".tile[data-picture] video")].find(video => !video.muted).currentTime);
  await until(page, before => [...document.querySelectorAll(".tile[data-picture] video")].some(video => !video.muted && video.currentTime > before + 3), before);

  // What is lost on the way here is asked for, and what is lost on the way there sent again; with few
  // packets it takes a while until one is.
  const video = await until(page, async () => {
    const reports = await Promise.all(window.connections.map(connection => connection.getStats()));
    const video = reports.flatMap(report => [...report.values()]).filter(({ kind }) => kind === "video");
    const busiest = (type, count) =>
      video.filter(stats => stats.type === type).reduce((a, b) => ((b[count] ?? 0) > (a[count] ?? 0) ? b : a), {});
    const sent = busiest("outbound-rtp", "packetsSent");
    const received = busiest("inbound-rtp", "packetsReceived");
    const isRecovered = sent.nackCount > 0 && sent.retransmittedPacketsSent > 0 &&
      received.nackCount > 0 && received.retransmittedPacketsReceived > 0;
    return isRecovered && { sent, received };
  });
  t.diagnostic(JSON.stringify(video));
  assert.ok(video.sent.rtxSsrc && video.received.rtxSsrc, JSON.stringify(video));

  const summary = await caller.hangUp();
  for (const track of summary.received) {
    assert.ok(track.frames > 50, JSON.stringify(track));
    assert.ok(track.lost > 0 || track.packets > 0, JSON.stringify(track));
  }
  const counted = execFileSync("nft", ["list", "table", "netdev", "lossy"], { encoding: "utf8" }).match(/counter packets (\d+)/);
  assert.ok(Number(counted[1]) > 10, "packets were lost");
});
