// What this browser can do, and what no page can: `navigator.getRTCCapabilities()`.

import { known } from "./codecs.js";
import { localCodecs } from "./prepare.js";

/** Why, for whatever is false below. */
const reasons = Object.freeze({
  withholdLocalCandidate: "a browser uses each candidate as soon as it has found it, set or not",
  shareSocket: "a browser shares no socket between two connections",
  rtpExtHeaders: "a page can neither set nor read RTP header extensions",
  unknownTracks: "a browser drops what nobody has described to it, and tells no page: a description may come late, and unknowntrack is never fired",
  holdTones: "a browser cannot end a tone that it has begun: a held key goes out when it is released, as long as it was held",
  keepCredentialsOnUpdate: "a browser gathers again only with new credentials: signal local.ice anew after update()",
});

/** Flags of ours beside the drafts' lists of codecs. */
export const capabilities = Object.freeze({
  withholdLocalCandidate: false,
  shareSocket: false,
  rtpExtHeaders: false,
  unknownTracks: false,
  holdTones: false,
  keepCredentialsOnUpdate: false,
  reasons,
});

/** An RTCCapabilities of the drafts, with our flags beside. */
export function getRTCCapabilities() {
  const { audio, video } = localCodecs();
  const canHearTones = typeof RTCRtpScriptTransform === "function";
  return structuredClone({
    audioCodecs: audio, videoCodecs: video, receiveTones: canHearTones, ...capabilities,
  });
}

/** The codec of that name, or null if the browser does not have it. */
export function getRTCCodec(name) {
  const { audio, video } = localCodecs();
  const codec = [...audio, ...video].find(codec => codec.name === known(name)?.name);
  return codec ? structuredClone(codec) : null;
}
