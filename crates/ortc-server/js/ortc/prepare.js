// Connections that wait to be constructed. `new RTCConnection()` answers at once with credentials,
// a certificate's fingerprint and the SSRCs of tracks yet to be added; a browser makes all of
// these later. So some are made ahead, one set for each connection: a certificate is never shared.

import { codecsOf, extensionId, keysBeside, repairOf } from "./codecs.js";
import { sectionsOf, withCredentials } from "./description.js";
import { credentials, parseHex } from "./identity.js";
import { DEPENDENCIES, SPARE_SIMULCAST, encodingsOf, nameLayers, ridIds, trackNumber } from "./simulcast.js";

/** How many connections can be constructed in one go. */
const READY = 3;

/** How many tracks of a kind can be added to a connection in one go. */
export const SPARE_TRACKS = 4;

const ready = [];
let making = 0;
let local = { audio: [], video: [] };
/** The id that this browser has for the numbers of its packets; null if it has none. */
let numbers = null;

/** What this browser sends and receives, by kind: codecs with its own payload types. */
export const localCodecs = () => local;

/** What a section has for the numbers of its packets: those of pictures have them. */
export const localNumberId = kind => (kind === "video" ? numbers : null);

/** The codecs that a track is sent with, unless others are asked for: few, so that few clash. */
export function usualCodecs(kind) {
  const preferred = { audio: "opus", video: "vp8" }[kind];
  const first = local[kind].find(({ name }) => name === preferred) ?? local[kind][0];
  const beside = kind === "audio" ? keysBeside(first, local.audio) : first && repairOf(first, local.video);
  return [first, beside].filter(Boolean);
}

/** Completes when as many connections can be constructed as ever at once. */
export async function prepared() {
  const missing = Math.max(0, READY - ready.length - making);
  making += missing;
  await Promise.all(Array.from({ length: missing }, async () => {
    try {
      ready.push(await prepare());
    } finally {
      making--;
    }
  }));
}

/** One that is ready. */
export function take() {
  const one = ready.shift();
  // Should it fail, the next constructor says so.
  prepared().catch(() => {});
  if (!one) {
    throw new DOMException(
      `no more than ${READY} connections can be constructed at once: await ready() between them`,
      "InvalidStateError",
    );
  }
  return one;
}

async function prepare() {
  const certificate = await RTCPeerConnection.generateCertificate({ name: "ECDSA", namedCurve: "P-256" });
  const pc = new RTCPeerConnection({
    certificates: [certificate], bundlePolicy: "max-bundle", rtcpMuxPolicy: "require",
  });
  const transceivers = [];
  for (const [direction, count] of [["recvonly", 1], ["sendonly", SPARE_TRACKS]]) {
    for (const kind of ["audio", "video"]) {
      for (let n = 0; n < count; n++) transceivers.push(pc.addTransceiver(kind, { direction }));
    }
  }
  for (const transceiver of transceivers) if (transceiver.direction === "sendonly") nameLayers(transceiver);
  const several = [];
  for (let n = 0; n < SPARE_SIMULCAST; n++) {
    const sendEncodings = encodingsOf(n);
    several.push(sendEncodings);
    transceivers.push(pc.addTransceiver("video", { direction: "sendonly", sendEncodings }));
  }
  const { sdp: text } = await pc.createOffer();
  const fingerprint = parseHex(text.match(/^a=fingerprint:sha-256 (\S+)/im)[1]);
  const own = credentials(fingerprint);
  const described = sectionsOf(text);
  local = { audio: codecsOf(described[0].text), video: codecsOf(described[1].text) };
  numbers = described[1].numberId;
  const single = described.length - several.length;
  const sections = described.map(({ mid, kind, ssrc, rtxSsrc, text: own }, at) => ({
    ...(at >= single && simulcast(several[at - single], own)),
    mid,
    kind,
    role: at < 2 ? "anchor" : "send",
    isFree: at >= 2,
    isOpen: false,
    codecs: at < 2 ? local[kind] : usualCodecs(kind),
    ...(at < single && { ssrc, rtxSsrc }),
    numberId: at < 2 ? null : localNumberId(kind),
    layersId: at < 2 ? null : extensionId(own, DEPENDENCIES),
    transceiver: transceivers[at],
  }));
  return { pc, sections, local: own, fingerprint, offer: withCredentials(text, own) };
}

/** What a section has that is sent in several encodings; nothing where the browser does not do so. */
export function simulcast(encodings, text) {
  const ids = ridIds(text);
  const isTaken = ids.rid && /^a=simulcast:send /m.test(text);
  return isTaken ? { isSimulcast: true, encodings, ids, ssrc: trackNumber() } : { isSimulcast: true };
}
