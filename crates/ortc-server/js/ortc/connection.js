// RTCConnection: the drafts' connection, over a Transport.

import { candidateLine, describeCandidate, validateCandidate } from "./candidates.js";
import { capabilities, restartsBothSides } from "./capabilities.js";
import { attach, detach, isToneTrack, RTCDTMFHandler, ToneQueue } from "./dtmf.js";
import { fire, handlers } from "./events.js";
import { certificateFingerprint, credentials, fingerprintOf, hex, isDtlsClient, validateRemote } from "./identity.js";
import { Monitor } from "./monitor.js";
import { take } from "./prepare.js";
import { Receiving } from "./receiving.js";
import { sha256 } from "./sha256.js";
import { SCALABILITY } from "./simulcast.js";
import { RTCTrack } from "./track.js";
import { Transport } from "./transport.js";

const EVENTS = [
  "candidate", "endofcandidates", "activecandidate", "connected", "disconnected", "addstream",
  "unknowntrack", "adddtmfhandler", "icerestart", "error",
];

/** A local socket (ORTC drafts, "RTCSocket"). A browser shares none: see the capabilities. */
export class RTCSocket {}

/** A connection to a peer (ORTC drafts, "RTCConnection"). */
export class RTCConnection extends EventTarget {
  #transport;
  #receiving;
  #monitor;
  #socket = new RTCSocket();
  #local;
  #fingerprint;
  #remote;
  #remoteDtls = null;
  #candidates = new Map();
  /** By source, in the order in which they were added. */
  #tracks = new Map();
  #streams = new Set();
  #queues = new Map();
  #toneTracks = new Map();
  #isConnecting = false;
  #isConnected = false;
  #isClosed = false;

  constructor(options = {}) {
    super();
    if (options?.socket != null) throw new DOMException(capabilities.reasons.shareSocket, "NotSupportedError");
    const iceServers = (options?.iceServers ?? []).map(iceServer);
    const one = take();
    this.#fingerprint = one.fingerprint;
    this.#local = Object.freeze({
      ice: one.local,
      dtls: Object.freeze({ fingerprint: certificateFingerprint({ "sha-256": one.fingerprint }) }),
    });
    const dtls = () => this.#remoteDtls;
    this.#remote = { ice: { usernameFrag: "", password: "" }, get dtls() { return dtls(); } };
    this.#transport = new Transport(one, { iceServers }, {
      failed: error => this.#fail(error),
      arriving: (section, receiver) => this.#receiving.arriving(section, receiver),
      received: section => this.#receiving.received(section),
      refused: section => this.#receiving.refused(section),
    });
    this.#receiving = new Receiving(this, this.#transport);
    this.#monitor = new Monitor(this, this.#transport, this.#receiving);
    const { pc } = this.#transport;
    pc.addEventListener("icecandidate", ({ candidate }) => this.#found(candidate));
    pc.addEventListener("connectionstatechange", () => this.#changed());
  }

  /** Our side: `ice` and `dtls`, known at once. */
  get local() { return this.#local; }

  /** The peer's: set `remote.ice` before `connect()`; `remote.dtls` is null until connected. */
  get remote() { return this.#remote; }
  set remote(side) { Object.assign(this.#remote.ice, side?.ice); }

  /** `new`, `connecting`, `connected`, `disconnected` or `closed`: an addition of ours. */
  get state() {
    if (this.#isClosed) return "closed";
    if (this.#isConnected) return "connected";
    return !this.#isConnecting ? "new" : this.#remoteDtls ? "disconnected" : "connecting";
  }

  getLocalSocket() { return this.#socket; }

  /** Lets a found candidate take part; in a browser it does so already. */
  setLocalCandidate(candidate) {
    validateCandidate(candidate);
    this.#open();
  }

  setRemoteCandidate(candidate) {
    validateCandidate(candidate);
    this.#open();
    this.#transport.addCandidate(candidateLine(candidate));
  }

  /** The peer has no more candidates: an addition of ours, optional. */
  setRemoteEndOfCandidates() {
    this.#open();
    this.#transport.addCandidate(null);
  }

  connect() {
    this.#open();
    const ice = this.#remote.ice;
    validateRemote(ice, this.#local.ice);
    const fingerprint = fingerprintOf(ice);
    if (!fingerprint) {
      throw new DOMException("the remote credentials name no fingerprint: a browser connects to nobody without",
        "InvalidAccessError");
    }
    const { usernameFrag, password } = ice;
    const peer = { usernameFrag, password, fingerprint: hex(fingerprint),
      isActive: isDtlsClient(ice, this.#local.ice) };
    if (this.#isConnecting) {
      // Channels repeat messages. Other credentials are a peer that has restarted ICE.
      const known = this.#transport.peer;
      if (known.usernameFrag === usernameFrag && known.password === password) return;
      if (known.fingerprint !== peer.fingerprint) {
        throw new DOMException("the peer has another certificate: it takes a new connection", "InvalidStateError");
      }
      const ice = restartsBothSides ? this.#renew() : this.#local.ice;
      // Who is the DTLS client was decided once.
      this.#transport.follow({ ...peer, isActive: known.isActive }, ice);
      if (restartsBothSides) queueMicrotask(() => fire(this, "icerestart", { ice }));
      return;
    }
    this.#isConnecting = true;
    this.#transport.connect(peer);
  }

  /**
   * Restarts ICE with new credentials, which it returns, to be signalled to the peer (RFC 8445 §9): an
   * addition of ours, as in the Rust crates. A browser gathers again with it; media goes on meanwhile.
   */
  restartIce() {
    this.#open();
    if (restartsBothSides) throw new DOMException(capabilities.reasons.restartIce, "NotSupportedError");
    if (!this.#remoteDtls) {
      throw new DOMException("a connection restarts once it has been connected", "InvalidStateError");
    }
    const ice = this.#renew();
    this.#transport.restart(ice);
    return ice;
  }

  /** New credentials of ours, of the same certificate. */
  #renew() {
    const ice = credentials(this.#fingerprint);
    this.#local = Object.freeze({ ...this.#local, ice });
    return ice;
  }

  update() {
    this.#open();
    throw new DOMException(capabilities.reasons.keepCredentialsOnUpdate, "NotSupportedError");
  }

  /**
   * Sends the tracks of a stream. With `simulcast`, an addition of ours for a peer that takes
   * `encodings`, as a room does, pictures are sent in three sizes at once, where the browser can.
   * With `scalabilityMode`, such as "L3T3_KEY", they are sent in layers, if the codec of the track
   * has them and the browser can.
   */
  addStream(stream, autostart = true, { simulcast = false, scalabilityMode = null } = {}) {
    if (scalabilityMode !== null && !SCALABILITY.test(scalabilityMode)) {
      throw new TypeError(`${scalabilityMode} is no scalability mode`);
    }
    this.#open();
    const all = stream.getTracks();
    const sources = all.filter(track => !isToneTrack(track));
    const isNew = sources.filter(source => !this.#tracks.has(source));
    const added = new Map();
    for (const source of isNew) {
      const section = this.#transport.takeSender(source.kind, simulcast && source.kind === "video");
      if (!section) {
        // Added whole or not at all.
        for (const one of added.values()) this.#transport.end(one);
        throw new DOMException("no more tracks can be added before the next task", "QuotaExceededError");
      }
      if (source.kind === "video" && !section.encodings) section.scalabilityMode = scalabilityMode;
      added.set(source, section);
    }
    for (const source of sources) {
      const known = this.#tracks.get(source);
      if (known) {
        if (!known.msid.includes(stream.id)) known.msid = [...known.msid, stream.id];
        continue;
      }
      this.#tracks.set(source, RTCTrack.make({
        source,
        section: added.get(source),
        transport: this.#transport,
        msid: [stream.id],
        onremove: track => this.#removed(track),
      }));
    }
    this.#streams.add(stream);
    for (const tones of all.filter(isToneTrack)) this.#sendTones(tones, stream);
    if (autostart ?? true) for (const source of sources) this.#tracks.get(source).start();
  }

  removeStream(stream) {
    if (!this.#streams.delete(stream)) return;
    for (const tones of stream.getTracks().filter(isToneTrack)) {
      detach(tones);
      this.#toneTracks.delete(tones);
    }
    for (const track of [...this.#tracks.values()]) {
      const rest = track.msid.filter(id => id !== stream.id);
      if (rest.length === track.msid.length) continue;
      if (rest.length) track.msid = rest;
      else track.remove();
    }
  }

  /** The RTCTrack that sends this MediaStreamTrack; null if none does. */
  track(source) {
    return this.#tracks.get(source) ?? this.#toneTracks.get(source) ?? null;
  }

  /** The sending tracks; of one stream or kind if asked so. */
  tracks(filter = null) {
    const { mediaStream = null, kind = null } = filter ?? {};
    return [...this.#tracks.values()].filter(track =>
      (mediaStream === null || mediaStream.getTracks().includes(track.source)) &&
      (kind === null || track.kind === kind || (kind === "dtmf" && this.#queues.has(track))));
  }

  /** Gets ready to receive a described track. */
  receiveTrack(description) {
    this.#open();
    this.#receiving.add(description);
  }

  /** Lets go of a described track, by its SSRC: an addition of ours, for `trackEnded`. */
  stopReceiving(ssrc) {
    return this.#receiving.end(String(ssrc));
  }

  /** Sends tones with the first audio track, or that of a stream, or this one. */
  addDtmfHandler(container = null) {
    this.#open();
    const track = this.#soundOf(container);
    return RTCDTMFHandler.sending(track.ssrc, this.#queueOf(track));
  }

  getSendingStreams() { return [...this.#streams]; }

  getReceivingStreams() { return this.#receiving.streams(); }

  /** The described tracks of a receiving stream, as `{ ssrc, track }`: an addition of ours. */
  receivedTracks(stream) { return this.#receiving.of(stream); }

  /** What the connection carries, and how well: an addition of ours, see ortc.d.ts. */
  getStats() { return this.#monitor.read(); }

  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#monitor.close();
    this.#receiving.close();
    for (const queue of this.#queues.values()) queue.close();
    this.#transport.close();
    if (this.#isConnected) {
      this.#isConnected = false;
      queueMicrotask(() => fire(this, "disconnected", { reason: "closed" }));
    }
  }

  #open() {
    if (this.#isClosed) throw new DOMException("the connection is closed", "InvalidStateError");
  }

  #fail(error) {
    if (this.#isClosed) return;
    console.error("ortc:", error);
    fire(this, "error", { error });
  }

  #found(candidate) {
    // An empty candidate is the end of those of one generation, null that of all.
    if (candidate === null) return void fire(this, "endofcandidates");
    if (!candidate.candidate) return;
    const described = describeCandidate(candidate.candidate);
    if (!described) return;
    this.#candidates.set(`${described.connectionAddress} ${described.connectionPort}`, described);
    fire(this, "candidate", { candidate: described });
  }

  async #changed() {
    const state = this.#transport.pc.connectionState;
    if (state === "connected") return this.#connected();
    if (state === "disconnected" || state === "failed") this.#disconnected("path-lost");
  }

  async #connected() {
    if (this.#isConnected) return;
    const { dtls } = this.#transport;
    if (!this.#remoteDtls) {
      this.#remoteDtls = await remoteDtls(dtls, this.#transport.peer.fingerprint);
      if (dtls) dtls.addEventListener("statechange", () => this.#ended(dtls.state));
      dtls?.iceTransport?.addEventListener("selectedcandidatepairchange", () => this.#monitor.pathChanged());
    }
    if (this.#isClosed || this.#isConnected) return;
    this.#isConnected = true;
    for (const queue of this.#queues.values()) queue.ready();
    fire(this, "connected");
    this.#monitor.begin();
  }

  /** The other side has closed, and said so on the wire. */
  #ended(state) {
    if (state === "closed" || state === "failed") this.#disconnected("closed-by-peer");
  }

  #disconnected(reason) {
    if (!this.#isConnected) return;
    this.#isConnected = false;
    fire(this, "disconnected", { reason });
  }

  #soundOf(container) {
    const sound = this.tracks({ kind: "audio" });
    const isOf = track => container === null || track.source === container ||
      (container instanceof MediaStream && container.getTracks().includes(track.source));
    const track = sound.find(isOf);
    if (!track) {
      throw new DOMException("tones go out with an audio track: add one first", "InvalidStateError");
    }
    return track;
  }

  #queueOf(track) {
    let queue = this.#queues.get(track);
    if (!queue) {
      RTCTrack.addKeys(track);
      queue = new ToneQueue(({ digit, duration, gap }) => {
        const sender = RTCTrack.toneSender(track);
        if (!sender?.canInsertDTMF) return false;
        sender.insertDTMF(digit, duration, gap);
        return true;
      });
      this.#queues.set(track, queue);
      if (this.#isConnected) queue.ready();
    }
    return queue;
  }

  #sendTones(tones, stream) {
    const ofStream = this.tracks({ kind: "audio", mediaStream: stream })[0];
    const track = ofStream ?? this.#soundOf(null);
    attach(tones, this.#queueOf(track));
    this.#toneTracks.set(tones, track);
  }

  #removed(track) {
    this.#tracks.delete(track.source);
    this.#queues.get(track)?.close();
    this.#queues.delete(track);
    for (const [tones, of] of this.#toneTracks) {
      if (of !== track) continue;
      detach(tones);
      this.#toneTracks.delete(tones);
    }
  }
}

handlers(RTCConnection.prototype, EVENTS);

/** A server of the drafts as the browser takes it: the user may stand in the URI. */
function iceServer({ url, credential, username }) {
  const urls = Array.isArray(url) ? [...url] : [url];
  let user = username ?? undefined;
  const plain = urls.map(uri => {
    const [, scheme, name, rest] = /^(turns?:)(?:([^@]*)@)?(.*)$/i.exec(uri) ?? [];
    if (!scheme) return uri;
    if (name !== undefined) user ??= decodeURIComponent(name);
    return scheme + rest;
  });
  return credential == null ? { urls: plain } : { urls: plain, username: user ?? "", credential };
}

/** The fingerprints of the peer's certificate, which the browser has compared already. */
async function remoteDtls(dtls, verified) {
  const der = dtls?.getRemoteCertificates?.()[0];
  const byName = { "sha-256": verified.split(":").map(pair => parseInt(pair, 16)) };
  if (der) {
    byName["sha-256"] = sha256(new Uint8Array(der));
    const sha1 = await globalThis.crypto.subtle?.digest("SHA-1", der);
    if (sha1) byName["sha-1"] = new Uint8Array(sha1);
  }
  return Object.freeze({ fingerprint: certificateFingerprint(byName) });
}
