// RTCTrack: a track that is sent.

import { NUMBERS, TRANSPORT_WIDE, associated, isMedia, known, keysBeside, validateCodecs } from "./codecs.js";
import { capabilities } from "./capabilities.js";
import { localCodecs } from "./prepare.js";
import { DEPENDENCIES, adjust, namesLayers, ridExtensions, scalable, tune } from "./simulcast.js";
import { sentCodecs } from "./transport.js";

const MAX_MSIDS = 16;

/** Only a connection makes tracks. */
const KEY = Symbol("made by a connection");

/** A sending MediaStreamTrack of a connection (ORTC drafts, "RTCTrack"). */
export class RTCTrack {
  #source;
  #section;
  #transport;
  #onremove;
  #msid;
  #codecs;
  #mediaAttributes = null;
  #isSent = false;
  #isRemoved = false;

  constructor(key, { source, section, transport, msid, onremove }) {
    if (key !== KEY) throw new TypeError("Illegal constructor");
    this.#source = source;
    this.#section = section;
    this.#transport = transport;
    this.#msid = [...msid];
    this.#onremove = onremove;
    this.#codecs = section.codecs.filter(codec => known(codec.name).kind !== "dtmf");
  }

  static make(parts) { return new RTCTrack(KEY, parts); }

  get source() { return this.#source; }
  get kind() { return this.#section.kind; }
  get ssrc() { return this.#section.ssrc; }

  get msid() { return [...this.#msid]; }
  set msid(ids) {
    const list = [...ids].map(String);
    if (list.length > MAX_MSIDS || list.some(id => id.length < 1 || id.length > 256)) {
      throw new TypeError("msid is a list of at most 16 ids of 1 to 256 characters");
    }
    this.#msid = list;
  }

  get codecs() { return structuredClone(this.#codecs); }
  set codecs(codecs) {
    const list = structuredClone([...codecs]);
    validateCodecs(list);
    const mine = list.filter(codec =>
      localCodecs()[this.kind].some(own => known(codec.name)?.name === own.name));
    if (!mine.some(codec => isMedia(codec, this.kind))) {
      throw new DOMException("this browser sends none of these codecs", "NotSupportedError");
    }
    this.#codecs = list;
    this.#section.codecs = sentCodecs(this.kind, mine);
    this.#transport.changed();
  }

  get mediaAttributes() { return structuredClone(this.#mediaAttributes); }
  set mediaAttributes(attributes) {
    const list = attributes == null ? null : structuredClone([...attributes]);
    for (const { videoMaxWidth = null, videoMaxHeight = null } of list ?? []) {
      for (const bound of [videoMaxWidth, videoMaxHeight]) {
        if (bound !== null && !(Number.isInteger(bound) && bound > 0)) {
          throw new TypeError("videoMaxWidth and videoMaxHeight are numbers of pixels");
        }
      }
    }
    this.#mediaAttributes = list;
    this.#bound();
  }

  /** Header extensions cannot be set from a page: `getRTCCapabilities().rtpExtHeaders` is false. */
  get rtpExtHeaders() { return null; }
  set rtpExtHeaders(headers) {
    if (headers != null && Object.keys(headers).length > 0) {
      throw new DOMException(capabilities.reasons.rtpExtHeaders, "NotSupportedError");
    }
  }

  /** What the peer has to know to receive it: an RTCTrackDescription. */
  getDescription() {
    const description = { kind: this.kind, ssrc: this.ssrc, msid: this.msid, codecs: this.codecs };
    if (this.#mediaAttributes) description.mediaAttributes = this.mediaAttributes;
    const { rtxSsrc, numberId } = this.#section;
    if (numberId && this.#codecs.some(codec => codec.rtcpFeedback?.includes(TRANSPORT_WIDE))) {
      description.headerExtensions = [{ uri: NUMBERS, id: numberId }];
    }
    if (this.#section.encodings) {
      description.encodings = structuredClone(this.#section.encodings);
      description.headerExtensions = [...(description.headerExtensions ?? []), ...ridExtensions(this.#section)];
    }
    if (this.#section.scalabilityMode) description.encodings = [scalable(this.#section)];
    if (namesLayers(this.#section)) {
      const named = { uri: DEPENDENCIES, id: this.#section.layersId };
      description.headerExtensions = [...(description.headerExtensions ?? []), named];
    }
    if (rtxSsrc && this.#codecs.some(codec => associated(codec) !== null)) description.rtxSsrc = rtxSsrc;
    return description;
  }

  /** Sends it, from when the connection is connected. */
  start() {
    if (this.#isRemoved || this.#isSent) return;
    this.#isSent = true;
    this.#replace(this.#source);
    this.#bound();
  }

  /** Sends it no more, until it is started again. */
  stop() {
    if (this.#isRemoved || !this.#isSent) return;
    this.#isSent = false;
    this.#replace(null);
  }

  /** Takes it out of its connection for good. */
  remove() {
    if (this.#isRemoved) return;
    this.#isRemoved = true;
    this.#isSent = false;
    this.#replace(null);
    this.#transport.end(this.#section);
    this.#onremove(this);
  }

  /** Whether it is sent, or will be once connected: an addition of ours. */
  get isStarted() { return this.#isSent; }

  /** The browser's sender of keys. */
  static toneSender(track) { return track.#section.transceiver.sender.dtmf; }

  /** Adds the codec for keys to those that are described. */
  static addKeys(track) {
    if (track.#codecs.some(codec => known(codec.name)?.kind === "dtmf")) return;
    const keys = track.#section.codecs.find(codec => known(codec.name).kind === "dtmf") ??
      keysBeside(track.#codecs[0], localCodecs().audio);
    track.#codecs.push(keys);
  }

  #replace(source) {
    // The section goes on whatever becomes of this: a source that has ended sends nothing.
    this.#section.transceiver.sender.replaceTrack(source).catch(() => {});
  }

  /** Makes pictures as small as they are to be. Any entry may match: the largest counts. */
  #bound() {
    if (this.kind !== "video" || !this.#isSent) return;
    const { width, height } = this.#source.getSettings();
    const scales = (this.#mediaAttributes ?? []).map(({ videoMaxWidth, videoMaxHeight }) =>
      Math.max(1, width / (videoMaxWidth ?? Infinity) || 1, height / (videoMaxHeight ?? Infinity) || 1));
    const { sender } = this.#section.transceiver;
    const { encodings } = this.#section;
    const scale = scales.length ? Math.min(...scales) : 1;
    if (encodings) return tune(sender, encodings, scale);
    adjust(sender, ({ encodings: [encoding] }) => {
      encoding.scaleResolutionDownBy = scale;
      return true;
    });
  }
}
