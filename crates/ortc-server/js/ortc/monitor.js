// What a connection carries: tracks that begin and fall silent, the path, and figures for whoever
// wants to show them.

import { describeCandidate } from "./candidates.js";
import { fire } from "./events.js";

const EVERY_MS = 500;
/** A track of which nothing has come for so long is disconnected. */
const SILENCE_MS = 5000;

export class Monitor {
  #connection;
  #transport;
  #receiving;
  #timer = null;
  #isClosed = false;
  #isReading = false;
  #heard = new Map();
  #path = "";

  constructor(connection, transport, receiving) {
    this.#connection = connection;
    this.#transport = transport;
    this.#receiving = receiving;
  }

  begin() {
    this.#timer ??= setInterval(() => this.#look(), EVERY_MS);
    this.#look();
  }

  close() {
    this.#isClosed = true;
    clearInterval(this.#timer);
  }

  /** The path may be another one. */
  pathChanged() { this.#look(); }

  async #look() {
    if (this.#isReading || this.#isClosed) return;
    this.#isReading = true;
    try {
      const report = await this.#transport.pc.getStats();
      if (this.#isClosed) return;
      this.#lookAtTracks(report);
      this.#lookAtPath(report);
    } finally {
      this.#isReading = false;
    }
  }

  #lookAtTracks(report) {
    const now = performance.now();
    const seen = new Set();
    for (const stats of report.values()) {
      if (stats.type !== "inbound-rtp" || !stats.packetsReceived) continue;
      const ssrc = String(stats.ssrc);
      seen.add(ssrc);
      const last = this.#heard.get(ssrc);
      if (last?.packets !== stats.packetsReceived) {
        this.#heard.set(ssrc, { packets: stats.packetsReceived, at: now });
        this.#receiving.live(ssrc);
      } else if (now - last.at > SILENCE_MS) {
        this.#receiving.silent(ssrc, "timeout");
      }
    }
    for (const ssrc of this.#heard.keys()) if (!seen.has(ssrc)) this.#heard.delete(ssrc);
  }

  #lookAtPath(report) {
    const pair = selectedPair(report);
    if (!pair) return;
    const [local, remote] = [pair.localCandidateId, pair.remoteCandidateId].map(id => describe(report.get(id)));
    if (!local || !remote) return;
    const path = JSON.stringify([local, remote]);
    if (path === this.#path) return;
    this.#path = path;
    fire(this.#connection, "activecandidate", { localCandidate: local, remoteCandidate: remote });
  }

  /** Figures of now: see `RTCConnectionStats` in ortc.d.ts. */
  async read() {
    if (this.#isClosed) return { at: performance.now(), roundTripTime: null, availableBitrate: null, tracks: [] };
    const report = await this.#transport.pc.getStats();
    const pair = selectedPair(report);
    const codec = stats => report.get(stats.codecId)?.mimeType?.split("/")[1]?.toLowerCase() ?? null;
    const tracks = [];
    let roundTripTime = pair?.currentRoundTripTime ?? null;
    for (const stats of report.values()) {
      const common = { ssrc: String(stats.ssrc), kind: stats.kind, codec: codec(stats),
        width: stats.frameWidth ?? null, height: stats.frameHeight ?? null, framesPerSecond: stats.framesPerSecond ?? null };
      if (stats.type === "inbound-rtp" && stats.packetsReceived) {
        tracks.push({ ...common, direction: "receiving", bytes: stats.bytesReceived, packets: stats.packetsReceived,
          lost: Math.max(0, stats.packetsLost ?? 0), jitter: stats.jitter ?? null, frames: stats.framesDecoded ?? null,
          freezes: stats.freezeCount ?? null, limitation: null });
      } else if (stats.type === "outbound-rtp" && stats.packetsSent) {
        const remote = report.get(stats.remoteId);
        roundTripTime ??= remote?.roundTripTime ?? null;
        tracks.push({ ...common, direction: "sending", bytes: stats.bytesSent, packets: stats.packetsSent,
          lost: Math.max(0, remote?.packetsLost ?? 0), jitter: remote?.jitter ?? null, frames: stats.framesEncoded ?? null,
          freezes: null, limitation: stats.qualityLimitationReason ?? null });
      }
    }
    return { at: performance.now(), roundTripTime, availableBitrate: pair?.availableOutgoingBitrate ?? null, tracks };
  }
}

function selectedPair(report) {
  for (const stats of report.values()) {
    if (stats.type === "transport" && stats.selectedCandidatePairId) return report.get(stats.selectedCandidatePairId);
  }
  const pairs = [...report.values()].filter(it => it.type === "candidate-pair" && it.state === "succeeded");
  // Firefox nominates all that it checks, and marks the one that it uses.
  return pairs.find(it => it.selected) ?? pairs.find(it => it.nominated);
}

/** A candidate out of the figures of a browser, some of which leave out the foundation. */
function describe(stats) {
  if (!stats?.port) return null;
  return describeCandidate(
    `candidate:${stats.foundation || "0"} 1 ${stats.protocol} ${stats.priority} ` +
    `${stats.address || stats.ip || "0.0.0.0"} ${stats.port} typ ${stats.candidateType}` +
    (stats.protocol === "tcp" ? ` tcptype ${stats.tcpType}` : ""));
}
