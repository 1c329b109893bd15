// Figures of the connection: a plot of the last minute, and how each track does.

import { Series, bitRate, draw, percent } from "./plot.js";

const EVERY_MS = 1000;

/** What keeps pictures that are sent from being better, in words. */
const LIMITS = { bandwidth: "the network", cpu: "this device", other: "a setting" };

/** How a track does, in a word, by what is lost and how long a packet takes. */
export function qualityOf({ loss, roundTrip, isStill }) {
  if (isStill) return "none";
  if (loss > 0.08 || roundTrip > 0.6) return "poor";
  if (loss > 0.02 || roundTrip > 0.25) return "fair";
  return "good";
}

export class Figures {
  #call;
  #parts;
  #isShown = false;
  #of = null;
  #last = new Map();
  #at = -Infinity;
  #tracks = new Map();
  #lines = {};
  #now = [];

  constructor(call, parts) {
    this.#call = call;
    this.#parts = parts;
    this.#reset(null);
    const legend = [["--plot-in", "received"], ["--plot-out", "sent"], ["--plot-loss", "lost"], ["--plot-rtt", "round trip"]];
    parts.legend.replaceChildren(...legend.map(([colour, words]) => {
      const item = document.createElement("li");
      item.style.setProperty("--colour", `var(${colour})`);
      item.textContent = words;
      return item;
    }));
    setInterval(() => this.#look(), EVERY_MS);
  }

  show(isShown) {
    this.#isShown = isShown;
    this.#draw();
  }

  #reset(connection) {
    this.#of = connection;
    this.#at = -Infinity;
    this.#last.clear();
    this.#tracks.clear();
    this.#now = [];
    for (const name of ["received", "sent", "loss", "roundTrip"]) this.#lines[name] = new Series();
  }

  async #look() {
    const { connection } = this.#call;
    if (connection !== this.#of) {
      this.#reset(connection);
      // What was is not how it goes.
      this.#draw();
    }
    if (!connection || connection.state !== "connected") return;
    const stats = await connection.getStats();
    // A page that was held up may look twice at the same figures: no rate can be told from those.
    if (connection !== this.#of || stats.at - this.#at < EVERY_MS / 2) return;
    this.#at = stats.at;
    const sum = { receiving: 0, sending: 0, packets: 0, lost: 0 };
    const now = [];
    for (const track of stats.tracks) {
      const key = `${track.direction} ${track.ssrc}`;
      const last = this.#last.get(key);
      this.#last.set(key, { ...track, at: stats.at });
      if (!last) continue;
      const bits = (8000 * (track.bytes - last.bytes)) / (stats.at - last.at);
      const [packets, lost] = [track.packets - last.packets, Math.max(0, track.lost - last.lost)];
      sum[track.direction] += bits;
      sum.packets += packets;
      sum.lost += lost;
      const loss = packets + lost > 0 ? lost / (packets + lost) : 0;
      const series = this.#tracks.get(key) ?? { bits: new Series(), loss: new Series() };
      this.#tracks.set(key, series);
      series.bits.add(bits);
      series.loss.add(loss);
      // One packet that is lost in a second says little: the last five do.
      const recent = series.loss.values.slice(-5);
      const smooth = recent.reduce((a, b) => a + b, 0) / recent.length;
      const quality = qualityOf({ loss: smooth, roundTrip: stats.roundTripTime ?? 0, isStill: packets === 0 });
      now.push({ ...track, bits, loss: smooth, quality, series });
    }
    this.#lines.received.add(sum.receiving);
    this.#lines.sent.add(sum.sending);
    this.#lines.loss.add(sum.packets + sum.lost > 0 ? sum.lost / (sum.packets + sum.lost) : 0);
    this.#lines.roundTrip.add(stats.roundTripTime);
    for (const key of this.#last.keys()) {
      if (stats.tracks.some(track => `${track.direction} ${track.ssrc}` === key)) continue;
      this.#last.delete(key);
      this.#tracks.delete(key);
    }
    this.#now = now;
    this.#tiles(connection, now);
    this.#draw();
  }

  /** On each tile: a mark of its worst track, and its figures while they are asked for. */
  #tiles(connection, now) {
    const bySsrc = new Map(now.filter(track => track.direction === "receiving").map(track => [track.ssrc, track]));
    for (const stream of connection.getReceivingStreams()) {
      const tile = this.#parts.tileOf(stream);
      if (!tile) continue;
      const tracks = connection.receivedTracks(stream).map(({ ssrc }) => bySsrc.get(ssrc)).filter(Boolean);
      const order = ["none", "good", "fair", "poor"];
      const worst = tracks.reduce((a, { quality }) => (order.indexOf(quality) > order.indexOf(a) ? quality : a), "none");
      const mark = tile.querySelector(".quality");
      mark.dataset.quality = worst;
      mark.title = worst === "none" ? "" : `${worst[0].toUpperCase()}${worst.slice(1)} connection`;
      const detail = tile.querySelector(".detail");
      detail.hidden = !this.#isShown;
      const main = tracks.find(({ kind }) => kind === "video") ?? tracks[0];
      if (!this.#isShown || !main) continue;
      const size = main.width ? `${main.width}×${main.height}, ${Math.round(main.framesPerSecond ?? 0)}/s` : "sound";
      tile.querySelector(".words").textContent = `${size} · ${bitRate(main.bits)} · ${percent(main.loss)} lost`;
      draw(tile.querySelector(".spark"), [
        { series: main.series.bits, name: "--plot-in", least: 1e5, isFilled: true },
        { series: main.series.loss, name: "--plot-loss", least: 0.1 },
      ]);
    }
  }

  #draw() {
    if (!this.#isShown) {
      for (const detail of document.querySelectorAll(".detail")) detail.hidden = true;
      return;
    }
    const { received, sent, loss, roundTrip } = this.#lines;
    const most = Math.max(2e5, ...received.values, ...sent.values);
    draw(this.#parts.plot, [
      { series: received, name: "--plot-in", least: most, isFilled: true },
      { series: sent, name: "--plot-out", least: most },
      { series: loss, name: "--plot-loss", least: 0.1 },
      { series: roundTrip, name: "--plot-rtt", least: 0.1 },
    ]);
    const trip = roundTrip.last === null ? "–" : `${Math.round(1000 * roundTrip.last)} ms`;
    const why = LIMITS[this.#now.find(({ limitation }) => LIMITS[limitation])?.limitation];
    this.#parts.now.replaceChildren(...[
      ["Received", bitRate(received.last)], ["Sent", bitRate(sent.last) + (why ? `, limited by ${why}` : "")],
      ["Lost", percent(loss.last)], ["Round trip", trip],
    ].map(([term, text]) => {
      const group = document.createElement("div");
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = term;
      dd.textContent = text;
      group.append(dt, dd);
      return group;
    }));
    const address = ({ connectionAddress: host, connectionPort: port, type }) =>
      `${host.includes(":") ? `[${host}]` : host}:${port} (${type})`;
    const { path } = this.#call;
    this.#parts.path.textContent = path
      ? `Path: ${address(path.localCandidate)} – ${address(path.remoteCandidate)}` : "";
    const names = new Map();
    for (const stream of this.#of?.getReceivingStreams() ?? []) {
      for (const { ssrc } of this.#of.receivedTracks(stream)) names.set(ssrc, this.#parts.nameOf(stream));
    }
    this.#parts.tracks.tBodies[0].replaceChildren(...this.#now.map(track => {
      const row = document.createElement("tr");
      const who = track.direction === "sending" ? "You" : names.get(track.ssrc) ?? track.ssrc;
      const what = track.width ? `${track.codec} ${track.width}×${track.height}` : track.codec ?? track.kind;
      for (const [text, small] of [[who, what], [track.quality === "none" ? "silent" : track.quality], [bitRate(track.bits)], [percent(track.loss)]]) {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (small) {
          const line = document.createElement("small");
          line.textContent = small;
          cell.append(line);
        }
        row.append(cell);
      }
      return row;
    }));
  }
}
