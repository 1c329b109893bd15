// The browser's side of a connection: one RTCPeerConnection, and the sections that it consists of.
//
// Nobody is the offerer. Our own description is applied at once, so that gathering starts; the
// peer's is made up here when its credentials are known. Whatever changes later, on either side,
// is one more description of the peer that is made up and applied. Steps run one after another.

import { keysBeside } from "./codecs.js";
import { describePeer, sectionsOf, withCredentials } from "./description.js";
import { SPARE_SIMULCAST, encodingsOf, nameLayers, scale, trackNumber, tune } from "./simulcast.js";
import { SPARE_TRACKS, localCodecs, localNumberId, usualCodecs } from "./prepare.js";

/** Candidates of the peer that are tried again after a restart: as many as the Rust crates keep. */
const MAX_CANDIDATES = 100;

export class Transport {
  #pc;
  #local;
  /** In the order that the browser has them. */
  #sections;
  /** Described, and not yet told to the browser. */
  #waiting = [];
  #peer = null;
  #version = 1;
  /** What payload types stand for. */
  #told = new Map();
  /** What ids of header extensions stand for. */
  #named = new Map();
  #mids = 0;
  /** Tracks in several encodings so far: each has names of its own for them. */
  #simulcasts = SPARE_SIMULCAST;
  #work;
  #isDirty = false;
  #isClosed = false;
  /** Candidates of the peer that wait for its description; and all of them so far. */
  #candidates = [];
  #known = new Set();
  #streams = new Map();
  #notices;

  /** `notices` has `failed(error)`, `arriving(section, receiver)`, `received(section)` and
   * `refused(section)`. */
  constructor(prepared, configuration, notices) {
    this.#pc = prepared.pc;
    this.#sections = prepared.sections;
    this.#local = prepared.local;
    this.#notices = notices;
    if (configuration.iceServers?.length) {
      this.#pc.setConfiguration({ ...this.#pc.getConfiguration(), ...configuration });
    }
    this.#pc.addEventListener("track", ({ transceiver, streams }) => {
      this.#streams.set(transceiver.mid, streams);
      // Now or never: later a browser lets nobody look at what is received.
      const section = this.#sections.find(it => it.mid === transceiver.mid && it.role === "receive");
      if (section) this.#notices.arriving(section, transceiver.receiver);
    });
    this.#work = this.#pc.setLocalDescription({ type: "offer", sdp: prepared.offer })
      .catch(error => this.#notices.failed(error));
  }

  get pc() { return this.#pc; }

  get sections() { return this.#sections.concat(this.#waiting); }

  /** Who the other side is; null until `connect`. */
  get peer() { return this.#peer; }

  /** The transport of everything; null until there is one. */
  get dtls() { return this.#sections[0].transceiver.receiver.transport; }

  /** Connects to a peer: see `describePeer`. */
  connect(peer) {
    this.#peer = peer;
    this.#do(async () => {
      await this.#pc.setRemoteDescription({ type: "answer", sdp: this.#describe() });
      this.#scale();
      this.#forgetGone();
      for (const candidate of this.#candidates.splice(0)) await this.#add(candidate);
    });
    // A spare track that was used up before is made good now.
    this.changed();
  }

  /** The peer has restarted ICE: its credentials are others now, and ours are these. */
  follow(peer, local) {
    this.#peer = peer;
    this.#local = local;
    this.#isDirty = true;
    this.#do(async () => {
      this.#isDirty = false;
      await this.#tell();
      // To a browser a candidate is one of the credentials that it came with.
      for (const line of this.#known) await this.#add(this.#candidate(line)).catch(() => {});
    });
  }

  /** Restarts ICE: our credentials are these from now on. Those of the peer stay. */
  restart(local) {
    this.#local = local;
    this.changed();
  }

  #candidate(line) {
    return { candidate: line, sdpMid: this.#sections[0].mid };
  }

  /** Takes a candidate of the peer; null for the end of them. */
  addCandidate(line) {
    const candidate = line === null ? undefined : this.#candidate(line);
    if (line !== null) this.#remember(line);
    this.#do(async () => {
      if (this.#pc.remoteDescription) await this.#add(candidate);
      else this.#candidates.push(candidate);
    });
  }

  /** The newest are kept. */
  #remember(line) {
    this.#known.delete(line);
    this.#known.add(line);
    const [oldest] = this.#known;
    if (this.#known.size > MAX_CANDIDATES) this.#known.delete(oldest);
  }

  async #add(candidate) {
    // The end of candidates means little to a browser: nothing is lost where it is not known.
    if (candidate === undefined) return this.#pc.addIceCandidate().catch(() => {});
    return this.#pc.addIceCandidate(candidate);
  }

  /**
   * A free section to send on, whose SSRC is known, in several encodings if that is wanted and can
   * be had; null if all have been given away.
   */
  takeSender(kind, wantsSimulcast = false) {
    const isFree = it => it.role === "send" && it.isFree && it.kind === kind && it.ssrc;
    const free = this.#sections.filter(isFree);
    const plain = free.find(it => !it.isSimulcast);
    const section = wantsSimulcast ? free.find(it => it.isSimulcast) ?? plain : plain;
    if (!section) return null;
    section.isFree = false;
    section.isOpen = true;
    this.changed();
    return section;
  }

  /** Gets ready for a described track. */
  receive(section) {
    this.#waiting.push(Object.assign(section, { role: "receive" }));
    this.changed();
  }

  /** Ends a section: what it sent or received is over. */
  end(section) {
    const waiting = this.#waiting.indexOf(section);
    if (waiting >= 0) {
      this.#waiting.splice(waiting, 1);
      return;
    }
    section.role = "gone";
    section.isTold = false;
    this.changed();
  }

  /** Something about the sections has changed: tells the browser, once for all that changes now. */
  changed() {
    if (this.#isDirty || !this.#peer) return;
    this.#isDirty = true;
    this.#do(async () => {
      this.#isDirty = false;
      await this.#tell();
    });
  }

  close() {
    this.#isClosed = true;
    this.#pc.close();
  }

  #do(step) {
    this.#work = this.#work
      .then(() => (this.#isClosed ? undefined : step()))
      .catch(error => { if (!this.#isClosed) this.#notices.failed(error); });
  }

  #describe() {
    return describePeer(this.#peer, this.#sections, this.#version++, this.#told, this.#named);
  }

  /** Describes the peer anew, with all that it sends and takes by now. */
  async #tell() {
    const added = [...this.#waiting.splice(0), ...this.#spares()];
    for (const section of added) {
      section.mid = `o${this.#mids++}`;
      const place = this.#sections.findIndex(it => it.role === "gone" && it.isTold && it.kind === section.kind);
      if (place < 0) this.#sections.push(section);
      else this.#sections[place] = section;
    }
    await this.#pc.setRemoteDescription({ type: "offer", sdp: this.#describe() });
    const transceivers = new Map(this.#pc.getTransceivers().map(it => [it.mid, it]));
    for (const section of added) {
      section.transceiver = transceivers.get(section.mid);
      if (section.role === "send" && section.transceiver) {
        section.transceiver.direction = "sendonly";
        nameLayers(section.transceiver);
      }
      if (section.encodings && section.transceiver) tune(section.transceiver.sender, section.encodings);
    }
    const { sdp: text } = await this.#pc.createAnswer();
    const described = new Map(sectionsOf(text).map(it => [it.mid, it]));
    // An answer has only what was offered, and the id is one for all of them.
    const spare = this.#sections.find(it => it.layersId);
    for (const section of added.filter(it => it.role === "send")) {
      // Of several encodings, only packets tell it.
      if (section.isSimulcast) continue;
      section.ssrc = described.get(section.mid)?.ssrc;
      section.rtxSsrc = described.get(section.mid)?.rtxSsrc;
      section.layersId = spare?.layersId ?? null;
    }
    await this.#pc.setLocalDescription({ type: "answer", sdp: withCredentials(text, this.#local) });
    this.#scale();
    this.#forgetGone();
    for (const section of added.filter(it => it.role === "receive")) {
      const isTaken = section.transceiver && !described.get(section.mid)?.isRejected;
      section.streams = this.#streams.get(section.mid) ?? [];
      if (isTaken) this.#notices.received(section);
      else this.#notices.refused(section);
    }
  }

  /** Has what is sent in layers be sent so, now that its codec is known. */
  #scale() {
    const scaled = this.#sections.filter(it => it.role === "send" && it.scalabilityMode && it.transceiver);
    for (const { transceiver, scalabilityMode } of scaled) scale(transceiver.sender, scalabilityMode);
  }

  /** So many new sections that tracks can be added at once again. */
  #spares() {
    const simulcast = this.#sections.find(it => it.ids)?.ids;
    const several = this.#sections.filter(it => it.isSimulcast && it.isFree && it.role === "send").length;
    const missing = simulcast ? Math.max(0, SPARE_SIMULCAST - several) : 0;
    return ["audio", "video"].flatMap(kind => {
      const isFree = it => it.role === "send" && it.isFree && it.kind === kind && !it.isSimulcast;
      const free = this.#sections.filter(isFree);
      return Array.from({ length: Math.max(0, SPARE_TRACKS - free.length) }, () =>
        ({
          kind, role: "send", isFree: true, isOpen: false, codecs: usualCodecs(kind), numberId: localNumberId(kind),
        }));
    }).concat(Array.from({ length: missing }, () => ({
      kind: "video", role: "send", isFree: true, isOpen: false, codecs: usualCodecs("video"),
      numberId: localNumberId("video"), isSimulcast: true, encodings: encodingsOf(this.#simulcasts++), ids: simulcast,
      ssrc: trackNumber(),
    })));
  }

  /** The browser knows by now what has gone: its places may be taken. */
  #forgetGone() {
    for (const section of this.#sections) if (section.role === "gone") section.isTold = true;
    const live = new Set(this.#sections.map(({ mid }) => mid));
    for (const mid of this.#streams.keys()) if (!live.has(mid)) this.#streams.delete(mid);
  }
}

/** The codecs of a section that is sent on: those of its track, and keys beside sound. */
export function sentCodecs(kind, codecs) {
  if (kind !== "audio" || codecs.some(codec => codec.kind === "dtmf" || codec.name === "dtmf")) return codecs;
  const keys = keysBeside(codecs[0], localCodecs().audio);
  return keys ? [...codecs, keys] : codecs;
}
