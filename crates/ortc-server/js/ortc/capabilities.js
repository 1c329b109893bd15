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
  keepCredentialsOnUpdate: "a browser gathers again only with new credentials: restartIce() does so, where it is there",
  restartIce: "Firefox restarts ICE only where the peer takes new credentials at the same time: it follows a peer that does, and begins none",
  keepCredentialsOnPeerRestart: "Firefox takes new credentials when the peer has: signal what icerestart has, or the path is lost after a while",
});

/**
 * Whether ICE restarts only with new credentials on both sides at once. Firefox has it so, and nothing
 * that it can be asked says so: where one side keeps its own, it goes on for a while, and fails.
 */
export const restartsBothSides = /\bFirefox\//.test(globalThis.navigator?.userAgent ?? "");

/** Flags of ours beside the drafts' lists of codecs. */
export const capabilities = Object.freeze({
  withholdLocalCandidate: false,
  shareSocket: false,
  rtpExtHeaders: false,
  unknownTracks: false,
  holdTones: false,
  keepCredentialsOnUpdate: false,
  restartIce: !restartsBothSides,
  keepCredentialsOnPeerRestart: !restartsBothSides,
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
