// What is received: described tracks, the streams that they belong to, and their comings and goings.

import { describedId, isMedia, known, numberId, sameCodecs, validateCodecs } from "./codecs.js";
import { ReceivedTones, RTCDTMFHandler, receivedTrack } from "./dtmf.js";
import { fire, handlers, ownEvents } from "./events.js";
import { localCodecs } from "./prepare.js";
import { DEPENDENCIES } from "./simulcast.js";

const MAX_TRACKS = 250;
const EVENTS = ["connected", "disconnected"];
/** RFC 8830 §2: the characters of a token, of which an id in a browser consists. */
const IS_TOKEN = /^[!#$%&'*+.0-9A-Z^_`a-z{|}~-]{1,300}$/;

export class Receiving {
  #connection;
  #transport;
  /** By SSRC. */
  #tracks = new Map();
  /** By the id that was described. */
  #streams = new Map();
  #count = 0;

  constructor(connection, transport) {
    this.#connection = connection;
    this.#transport = transport;
  }

  /** Described tracks, by SSRC. */
  get tracks() { return this.#tracks; }

  streams() {
    return [...new Set([...this.#tracks.values()].flatMap(track => track.streams))];
  }

  of(stream) {
    const tracks = [...this.#tracks].filter(([, { streams }]) => streams.includes(stream));
    return tracks.map(([ssrc, { media }]) => ({ ssrc, track: media }));
  }

  add(description) {
    const { kind, ssrc, rtxSsrc, msid, codecs } = validate(description);
    const described = this.#tracks.get(ssrc);
    if (described) {
      const is = described.description;
      // Channels repeat messages.
      const isRepeated = is.kind === kind && is.rtxSsrc === rtxSsrc && is.msid.join() === msid.join();
      if (isRepeated && sameCodecs(is.codecs, codecs)) return;
      throw new DOMException(`a track of ssrc ${ssrc} is described already, otherwise`, "InvalidStateError");
    }
    if (this.#tracks.size >= MAX_TRACKS) {
      throw new DOMException(`at most ${MAX_TRACKS} tracks are received`, "QuotaExceededError");
    }
    const own = localCodecs()[kind];
    const usable = codecs.filter(codec => own.some(other => other.name === known(codec.name)?.name));
    if (!usable.some(codec => isMedia(codec, kind))) {
      throw new DOMException("this browser supports none of these codecs", "NotSupportedError");
    }
    const keys = own.find(codec => codec.kind === "dtmf");
    const hasOwnRate = keys?.clockRate === 48000 || own.filter(codec => codec.kind === "dtmf").length > 1;
    const section = {
      kind,
      ssrc,
      rtxSsrc,
      msid: msid.map(token),
      trackId: `track-${ssrc}-${++this.#count}`,
      codecs: usable,
      numberId: numberId({ ...description, codecs: usable }),
      layersId: describedId(description, DEPENDENCIES),
      // A browser that has one rate for keys takes them under that name only.
      rateOfKeys: hasOwnRate ? null : keys?.clockRate,
    };
    this.#tracks.set(ssrc, {
      description: structuredClone({ kind, ssrc, rtxSsrc, msid, codecs }),
      section, streams: [], media: null, isLive: false, packets: 0,
    });
    this.#transport.receive(section);
  }

  /** The browser gets ready for a described track. */
  arriving(section, receiver) {
    const track = this.#tracks.get(section.ssrc);
    if (track?.section === section) track.tones = ReceivedTones.of(receiver, track.description);
  }

  /** The browser is ready for a described track. */
  received(section) {
    const track = this.#tracks.get(section.ssrc);
    if (track?.section !== section) return;
    const { receiver } = section.transceiver;
    track.media = dress(receiver.track);
    const isNew = new Set();
    const native = section.streams;
    const ids = track.description.msid.length ? track.description.msid : [`-${section.ssrc}`];
    ids.forEach((id, at) => {
      let stream = this.#streams.get(id);
      if (!stream) {
        stream = dress(native[at] ?? new MediaStream());
        this.#streams.set(id, stream);
        isNew.add(stream);
      }
      if (!stream.getTracks().includes(receiver.track)) stream.addTrack(receiver.track);
      track.streams.push(stream);
    });
    const { tones } = track;
    if (tones) {
      track.toneTrack = receivedTrack(tones);
      track.handler = RTCDTMFHandler.receiving(section.ssrc, tones);
      for (const stream of track.streams) stream.addTrack(track.toneTrack);
    }
    receiver.track.addEventListener("unmute", () => this.live(section.ssrc));
    for (const stream of isNew) fire(this.#connection, "addstream", { stream });
    if (track.handler) fire(this.#connection, "adddtmfhandler", { handler: track.handler });
  }

  /** The browser will not have it. */
  refused(section) {
    if (this.#tracks.get(section.ssrc)?.section !== section) return;
    this.#tracks.delete(section.ssrc);
    this.#transport.end(section);
    const message = `the browser does not receive the track of ssrc ${section.ssrc}`;
    fire(this.#connection, "error", { error: new DOMException(message, "NotSupportedError") });
  }

  /** Packets of a track come. */
  live(ssrc) {
    const track = this.#tracks.get(ssrc);
    if (!track?.media || track.isLive) return;
    const streams = track.streams.filter(stream => !this.#isLive(stream));
    track.isLive = true;
    fire(track.media, "connected");
    for (const stream of streams) fire(stream, "connected");
  }

  /** They come no longer. */
  silent(ssrc, reason) {
    const track = this.#tracks.get(ssrc);
    if (!track?.isLive) return;
    track.isLive = false;
    fire(track.media, "disconnected", { reason });
    for (const stream of track.streams) {
      if (!this.#isLive(stream)) fire(stream, "disconnected", { reason });
    }
  }

  /** A track has ended; whether there was one. */
  end(ssrc) {
    const track = this.#tracks.get(ssrc);
    if (!track) return false;
    this.silent(ssrc, "ended");
    this.#tracks.delete(ssrc);
    track.tones?.close();
    for (const stream of track.streams) {
      for (const media of [track.media, track.toneTrack]) if (media) stream.removeTrack(media);
    }
    const left = new Set(this.streams());
    for (const [id, stream] of this.#streams) if (!left.has(stream)) this.#streams.delete(id);
    this.#transport.end(track.section);
    return true;
  }

  close() {
    for (const [ssrc, track] of this.#tracks) {
      track.tones?.close();
      this.silent(ssrc, "closed");
    }
  }

  #isLive(stream) {
    return [...this.#tracks.values()].some(track => track.isLive && track.streams.includes(stream));
  }
}

const dressed = new WeakSet();

/** Gives a MediaStream or MediaStreamTrack the drafts' `onconnected` and `ondisconnected`. */
function dress(media) {
  if (!dressed.has(media)) {
    dressed.add(media);
    ownEvents(media, EVENTS);
    handlers(media, EVENTS);
  }
  return media;
}

/** An id as a browser takes it. */
const token = id => (IS_TOKEN.test(id) ? id : `x${Array.from(new TextEncoder().encode(id), byte => byte.toString(16)).join("")}`);

/** Throws a TypeError that names what is wrong. */
export function validate(description) {
  if (description === null || typeof description !== "object") throw new TypeError("no track description");
  const { kind, ssrc, rtxSsrc, msid, codecs } = description;
  if (kind !== "audio" && kind !== "video") throw new TypeError("track: kind is not audio or video");
  const isSsrc = text => typeof text === "string" && /^\d{1,10}$/.test(text) && Number(text) <= 0xffffffff;
  if (!isSsrc(ssrc)) throw new TypeError("track: ssrc is no decimal number of 32 bits");
  if (rtxSsrc != null && (!isSsrc(rtxSsrc) || Number(rtxSsrc) === Number(ssrc))) {
    throw new TypeError("track: rtxSsrc is no decimal number of 32 bits that is not ssrc");
  }
  const isId = id => typeof id === "string" && id.length >= 1 && id.length <= 256;
  if (!Array.isArray(msid) || msid.length > 16 || !msid.every(isId)) {
    throw new TypeError("track: msid is no list of at most 16 ids");
  }
  validateCodecs(codecs);
  return { kind, ssrc: String(Number(ssrc)), rtxSsrc: rtxSsrc == null ? null : String(Number(rtxSsrc)), msid, codecs };
}
