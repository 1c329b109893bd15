// Our call with the room: a WebSocket and an RTCConnection, made anew whenever either is lost.

import { DTMFMediaStreamTrack, RTCConnection, getRTCCapabilities, ready } from "/ortc.js";

/** Reasons of the server that trying again does not help against; see docs/signalling.md. */
const FINAL = {
  4400: "This is no name of a room: use letters, digits and . _ ~ -, 64 at the most.",
  4401: "This server asks for an invitation, and this link holds none that it takes. Ask for the whole link.",
};
const SILENT = "The server does not answer: trying again until it does…";
const REFUSED = "The server answers, but takes no call from this page: it has to be started with "
  + `--origin ${location.origin}, or what stands before it passes no WebSockets on. Trying again…`;
const RETRY_MS = [300, 1000, 2000, 4000, 8000];
/** No path by then: something between here and the server blocks it. */
const BLOCKED_MS = 10_000;
/** A lost path comes back by itself, or it is given up. */
const LOST_MS = 6000;

/**
 * Fires `state` (with `state`, `words`), `stream`, `streamgone` (with `stream`), `key` (with
 * `digit`, `member`) and `complaint` (with `message`).
 */
export class Call extends EventTarget {
  connection = null;
  state = "new";
  /** The DTMFMediaStreamTrack of this connection, while there is sound for it to go with. */
  tones = null;
  /** The candidates that carry it. */
  path = null;
  #url;
  #media;
  #socket = null;
  #tries = 0;
  #timers = new Set();
  #sent = new Map();
  #received = new Map();
  #limits = new Map();
  #isOver = false;

  constructor(url, media) {
    super();
    this.#url = url;
    this.#media = media;
    addEventListener("online", () => this.#hurry());
    addEventListener("pagehide", () => this.leave());
  }

  join() {
    this.#isOver = false;
    this.#begin();
  }

  leave() {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#say({ bye: {} });
    this.#drop();
    this.#tell("left", "You have left the room");
  }

  /** Sends what there is now of our own, and no longer what is not. */
  update() {
    const { connection } = this;
    if (!connection || connection.state === "closed") return;
    const streams = [this.#media.stream, this.#media.screen].filter(Boolean);
    const wanted = new Set(streams.flatMap(stream => stream.getTracks()));
    for (const [source, track] of this.#sent) {
      if (wanted.has(source)) continue;
      this.#sent.delete(source);
      track.remove();
      this.#say({ trackEnded: { ssrc: track.ssrc } });
      if (track.kind === "audio") this.tones = null;
    }
    for (const stream of streams) {
      const added = stream.getTracks().filter(source => !this.#sent.has(source));
      if (!added.length) continue;
      const sent = new MediaStream(added);
      if (added.includes(this.#media.sound)) {
        // The keys go out with the microphone's sound, in its place.
        this.tones = new DTMFMediaStreamTrack();
        sent.addTrack(this.tones);
      }
      // A screen is to be read: small pictures of it are of no use.
      connection.addStream(sent, true, { simulcast: stream !== this.#media.screen });
      for (const source of added) {
        const track = connection.track(source);
        // Whatever comes and goes, to the others it is one stream.
        track.msid = [stream.id];
        if (track.kind === "audio") repeat(track);
        this.#sent.set(source, track);
        this.#say({ track: track.getDescription() });
      }
    }
    this.dispatchEvent(new Event("sending"));
  }

  /** Asks the server for no more than so many bits a second of a track; undefined for all there is. */
  limit(ssrc, maxBitrate) {
    if (this.#limits.get(ssrc) === maxBitrate) return;
    this.#limits.set(ssrc, maxBitrate);
    this.#say({ trackLimit: { ssrc, maxBitrate } });
  }

  async #begin() {
    this.#tell("joining", this.#tries ? "Joining again…" : "Joining…");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    let wasOpen = false;
    socket.onopen = () => { wasOpen = true; };
    socket.onclose = ({ code, reason }) => { if (this.#socket === socket) this.#lost(code, reason, wasOpen); };
    try {
      await ready();
      await new Promise((opened, failed) => {
        socket.addEventListener("open", opened);
        socket.addEventListener("close", failed);
      });
    } catch {
      return;
    }
    if (this.#socket !== socket) return;
    this.#connect();
  }

  #connect() {
    const connection = new RTCConnection();
    this.connection = connection;
    const { audioCodecs } = getRTCCapabilities();
    this.#say({ capabilities: { audioCodecs } });
    this.#say({ iceInfo: connection.local.ice });
    connection.oncandidate = ({ candidate }) => {
      connection.setLocalCandidate(candidate);
      this.#say({ candidate });
    };
    connection.onicerestart = ({ ice }) => this.#say({ iceInfo: ice });
    connection.onendofcandidates = () => this.#say({ endOfCandidates: {} });
    connection.onaddstream = ({ stream }) => this.#fire("stream", { stream });
    connection.onactivecandidate = ({ localCandidate, remoteCandidate }) => {
      this.path = { localCandidate, remoteCandidate };
    };
    connection.onadddtmfhandler = ({ handler }) => {
      handler.ondtmf = ({ tone }) => {
        const member = memberOf(this.#received.get(handler.label) ?? "");
        this.#fire("key", { digit: tone, member });
      };
    };
    connection.onerror = ({ error }) => this.#fire("complaint", { message: error.message });
    connection.onconnected = () => {
      this.#clear();
      this.#tries = 0;
      this.#tell("connected", "Connected");
    };
    connection.ondisconnected = ({ reason }) => {
      if (reason === "closed") return;
      this.#tell("trouble", "The connection is lost: waiting for it to come back…");
      this.#after(LOST_MS, () => this.#again("Connecting anew…"));
    };
    this.#after(BLOCKED_MS, () => this.#tell("trouble",
      "The server answers, but no sound and pictures get through: a firewall may block UDP. Still trying…"));
    this.update();
    for (const message of this.#early.splice(0)) this.#heed(message);
  }

  #early = [];

  #hear(message) {
    if (this.connection) this.#heed(message);
    else if (this.#early.length < 1000) this.#early.push(message);
  }

  #heed({ iceInfo, candidate, endOfCandidates, track, trackEnded, error }) {
    const { connection } = this;
    try {
      if (iceInfo) {
        connection.remote.ice = iceInfo;
        connection.connect();
      }
      if (candidate) connection.setRemoteCandidate(candidate);
      if (endOfCandidates) connection.setRemoteEndOfCandidates();
      if (track) {
        this.#received.set(track.ssrc, track.msid[0] ?? "");
        connection.receiveTrack(track);
      }
      if (trackEnded) {
        const before = connection.getReceivingStreams();
        this.#received.delete(trackEnded.ssrc);
        this.#limits.delete(trackEnded.ssrc);
        connection.stopReceiving(trackEnded.ssrc);
        const left = connection.getReceivingStreams();
        for (const stream of before) if (!left.includes(stream)) this.#fire("streamgone", { stream });
        this.#fire("streamchanged");
      }
      if (error) this.#fire("complaint", { message: error.message });
    } catch (wrong) {
      this.#fire("complaint", { message: wrong.message });
    }
  }

  #lost(code, reason, wasOpen) {
    if (this.#isOver) return;
    if (wasOpen) this.#isRefused = false;
    if (FINAL[code]) {
      this.#isOver = true;
      this.#drop();
      return this.#tell("refused", FINAL[code]);
    }
    const words = {
      1001: "The server is shutting down: waiting for it to come back…",
      4408: "No sound and pictures get through to the server: a firewall may block UDP. Trying again…",
      4409: "The room is full: trying again until there is a place…",
      4503: "The server is full: trying again until there is a place…",
    }[code] ?? (reason ? `The server has hung up: ${reason}. Trying again…` : this.#isRefused ? REFUSED : SILENT);
    this.#again(words);
    if (!wasOpen && [SILENT, REFUSED].includes(words)) this.#look();
  }

  /** Why there is no WebSocket a browser does not tell: whether the server is there at all is asked for. */
  async #look() {
    const tries = this.#tries;
    try {
      this.#isRefused = (await fetch("/healthz")).ok;
    } catch {
      this.#isRefused = false;
    }
    // It may have been tried again meanwhile, and be another trouble.
    if (this.state === "trouble" && this.#tries === tries) this.#tell("trouble", this.#isRefused ? REFUSED : SILENT);
  }

  #isRefused = false;

  #again(words) {
    this.#drop();
    this.#tell("trouble", words);
    const wait = RETRY_MS[Math.min(this.#tries++, RETRY_MS.length - 1)];
    this.#after(wait * (0.8 + 0.4 * Math.random()), () => this.#begin());
  }

  /** The network is back. */
  #hurry() {
    if (this.state === "trouble" && !this.connection && !this.#isOver) {
      this.#clear();
      this.#drop();
      this.#begin();
    }
  }

  #drop() {
    this.#clear();
    const [socket, connection] = [this.#socket, this.connection];
    this.#socket = this.connection = this.tones = this.path = null;
    this.#early = [];
    this.#sent.clear();
    this.#received.clear();
    this.#limits.clear();
    socket?.close();
    for (const stream of connection?.getReceivingStreams() ?? []) this.#fire("streamgone", { stream });
    connection?.close();
    this.dispatchEvent(new Event("sending"));
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #after(ms, then) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, ms);
    this.#timers.add(timer);
  }

  #clear() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #tell(state, words) {
    this.state = state;
    this.#fire("state", { state, words });
  }

  #fire(type, attributes = {}) {
    this.dispatchEvent(Object.assign(new Event(type), attributes));
  }
}

/** Whose stream it is, by the name that the server gives it: `m7` of `m7-…`. */
export const memberOf = id => /^(m\d+)-/.exec(id)?.[1] ?? id;

/** Has each packet of sound repeat the one before it, where the browser can: the server knows who does not. */
function repeat(track) {
  const red = getRTCCapabilities().audioCodecs.find(({ name }) => name === "red");
  const repeats = red?.params?.[0]?.value?.split("/").map(Number) ?? [];
  if (repeats.length && repeats.every(id => id === track.codecs[0]["payload-id"])) track.codecs = [red, ...track.codecs];
}
