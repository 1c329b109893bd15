// Both drafts' faces of one queue of tones: RTCDTMFHandler and DTMFMediaStreamTrack.

import { fire, handlers, ownEvents } from "./events.js";
import { clockRate, known } from "./codecs.js";
import { ToneReceiver } from "./tone-receiver.js";
import { ToneQueue, digitsOf, tonesOf } from "./tones.js";

const KEY = Symbol("made by a connection");
let handlersMade = 0;

/** Sends tones, or receives them (ORTC draft B, "RTCDTMFHandler"). */
export class RTCDTMFHandler extends EventTarget {
  #id = `dtmf-${++handlersMade}`;
  #label;
  #queue;
  #duration = 100;
  #interToneGap = 50;

  constructor(key, label, queue) {
    if (key !== KEY) throw new TypeError("Illegal constructor");
    super();
    this.#label = label;
    this.#queue = queue;
  }

  static sending(label, queue) { return new RTCDTMFHandler(KEY, label, queue); }

  static receiving(label, tones) {
    const handler = new RTCDTMFHandler(KEY, label, null);
    tones.listen((what, { digit }) => { if (what === "start") fire(handler, "dtmf", { tone: digit }); });
    return handler;
  }

  get id() { return this.#id; }
  get label() { return this.#label; }
  get toneBuffer() { return this.#queue?.buffer ?? ""; }
  get duration() { return this.#duration; }
  get interToneGap() { return this.#interToneGap; }

  /** Plays these tones in place of all that wait. */
  insertDTMF(tones, duration = 100, interToneGap = 50) {
    if (!this.#queue) throw new DOMException("this handler receives tones", "InvalidStateError");
    const list = tonesOf(tones, duration, interToneGap);
    this.#queue.replace(list);
    [this.#duration, this.#interToneGap] = [duration, interToneGap];
  }

  get ondtmf() { return slots.get(this) ?? null; }
  set ondtmf(handler) {
    if (this.#queue) throw new DOMException("this handler sends tones", "InvalidStateError");
    if (!slots.has(this)) this.addEventListener("dtmf", event => slots.get(this)?.call(this, event));
    slots.set(this, typeof handler === "function" ? handler : null);
  }
}

const slots = new WeakMap();

/** The tones of a received track: those that it hears go to both faces. */
export class ReceivedTones {
  #listeners = new Set();
  #receiver;
  #channel = null;

  /** Listens in on a receiver; null if the browser cannot. */
  static of(receiver, description) {
    if (typeof RTCRtpScriptTransform !== "function") return null;
    const codecs = description.codecs;
    const keys = codecs.filter(codec => known(codec.name)?.kind === "dtmf");
    return keys.length ? new ReceivedTones(receiver, keys, clockRate(keys[0], codecs)) : null;
  }

  constructor(receiver, keys, rate) {
    this.#receiver = new ToneReceiver(rate, (what, tone) => {
      for (const listener of this.#listeners) listener(what, tone);
    });
    this.#channel = new MessageChannel();
    this.#channel.port1.onmessage = ({ data: [timestamp, payload] }) => this.#receiver.take(timestamp, payload);
    const payloadTypes = keys.map(codec => codec["payload-id"]);
    const port = this.#channel.port2;
    receiver.transform = new RTCRtpScriptTransform(worker(), { port, payloadTypes }, [port]);
  }

  listen(listener) { this.#listeners.add(listener); }

  close() {
    this.#receiver.close();
    this.#channel.port1.close();
  }
}

let sharedWorker = null;

function worker() {
  sharedWorker ??= new Worker(new URL("./tone-worker.js", import.meta.url));
  return sharedWorker;
}

// A browser's MediaStream takes its own tracks only. So this is one of them, a silent one, that
// has been given another face; it stays silent wherever it is played.
let silence = null;

function silentTrack() {
  silence ??= new RTCPeerConnection().addTransceiver("audio", { direction: "inactive" }).receiver.track;
  return silence.clone();
}

const faces = new WeakMap();
const TONE_EVENTS = ["tonestart", "tonestop", "tone"];

/** A track of tones, to be sent or received (ORTC draft A, "DTMFMediaStreamTrack"). */
export function DTMFMediaStreamTrack() {
  if (!new.target) throw new TypeError("DTMFMediaStreamTrack is constructed with new");
  return dress(null);
}

/** The track of draft A for tones that are received. */
export function receivedTrack(tones) {
  return dress(tones);
}

function dress(tones) {
  const track = Object.setPrototypeOf(silentTrack(), DTMFMediaStreamTrack.prototype);
  const face = { queue: null, early: [], isReceived: tones !== null };
  faces.set(track, face);
  ownEvents(track, TONE_EVENTS);
  tones?.listen((what, tone) => tell(track, what, tone));
  return track;
}

function tell(track, what, { digit, duration, gap = 0 }) {
  if (what === "tone") fire(track, "tone", { tone: { digits: digit, duration, interToneGap: gap } });
  else fire(track, `tone${what}`, { digit });
}

/** Whether a MediaStreamTrack is one of tones. */
export const isToneTrack = track => faces.has(track);

/** Lets a track of tones play on a queue, beginning with what it has been told already. */
export function attach(track, queue) {
  const face = faces.get(track);
  if (face.queue === queue) return;
  face.queue = queue;
  queue.listen((what, tone) => { if (face.queue === queue) tell(track, what, tone); });
  for (const early of face.early.splice(0)) early(queue);
}

/** It plays on no queue any longer. */
export function detach(track) {
  faces.get(track).queue = null;
}

/** Does something with the queue of a track, now or once it is sent. */
function withQueue(track, what) {
  const face = faces.get(track);
  if (!face) throw new TypeError("Illegal invocation");
  if (face.isReceived) throw new DOMException("this track receives tones", "InvalidStateError");
  if (face.queue) what(face.queue);
  else if (face.early.length < 1024) face.early.push(what);
}

function tonesToPlay(what) {
  if (what === undefined || what === null) return [];
  if (typeof what === "string") return tonesOf(what);
  const list = Array.isArray(what) ? what : [what];
  return list.flatMap(({ digits, duration, interToneGap }) =>
    tonesOf(digits, duration ?? undefined, interToneGap ?? undefined));
}

if (typeof MediaStreamTrack === "function") {
  DTMFMediaStreamTrack.prototype = Object.create(MediaStreamTrack.prototype, {
    constructor: { value: DTMFMediaStreamTrack, writable: true, configurable: true },
    kind: { get() { return "dtmf"; }, configurable: true, enumerable: true },
  });
  Object.setPrototypeOf(DTMFMediaStreamTrack, MediaStreamTrack);
  Object.assign(DTMFMediaStreamTrack.prototype, {
    /** Adds tones to what is played: a string, a DTMFTone, or several. */
    play(what) {
      const tones = tonesToPlay(what);
      withQueue(this, queue => queue.add(tones));
    },
    /** Plays nothing more. */
    flush() { withQueue(this, queue => queue.flush()); },
    /** A key is pressed. */
    tonestart(digit) {
      if (!digitsOf(digit).some(c => c !== ",")) throw new SyntaxError(`"${digit}" is no key`);
      withQueue(this, queue => queue.hold(digit));
    },
    /** The key is released. */
    tonestop() { withQueue(this, queue => queue.release()); },
  });
  handlers(DTMFMediaStreamTrack.prototype, TONE_EVENTS);
}

export { ToneQueue };
