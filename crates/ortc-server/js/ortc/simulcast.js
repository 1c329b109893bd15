// Pictures in several encodings at once: a room sends each of the others the one it has room for.

import { extensionId } from "./codecs.js";

/** The header extensions by which packets say of which encoding they are (RFC 8852). */
export const RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
export const REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const MID = "urn:ietf:params:rtp-hdrext:sdes:mid";

/** What packets of AV1 say of their layers, which their payload does not. */
export const DEPENDENCIES = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/** A scalability mode of the W3C's "Scalable Video Coding (SVC) Extension for WebRTC". */
export const SCALABILITY = /^[LS][1-3]T[1-3]h?(_KEY(_SHIFT)?)?$/;

/** What a camera of 720p is sent in, the least first: quarter, half and full size. */
const LAYERS = [
  { name: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { name: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { name: "f", scaleResolutionDownBy: 1, maxBitrate: 2_500_000 },
];

/** How many tracks can be sent so that are added at once. */
export const SPARE_SIMULCAST = 2;

/** The encodings of the `n`th such track of a connection: no two of a connection have one name. */
export const encodingsOf = n => LAYERS.map(({ name, ...rest }) => ({ rid: `${name}${n}`, ...rest }));

/** A number that stands for a track whose encodings have SSRCs that only its packets tell. */
export function trackNumber() {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return String(number || 1);
}

/** The ids of the extensions by which the browser tells encodings apart, in one of its sections. */
export const ridIds = section =>
  ({ rid: extensionId(section, RID), repairedRid: extensionId(section, REPAIRED_RID) });

/** The extensions by which a section's packets are told apart: id and name of each. */
export const ridNames = ({ encodings, ids }) =>
  encodings?.length ? [[ids.rid, RID], [ids.repairedRid, REPAIRED_RID]].filter(([id]) => id) : [];

/** The lines of a section in which the peer takes these encodings. */
export function simulcastLines({ encodings }) {
  if (!encodings?.length) return [];
  return [
    ...encodings.map(({ rid }) => `a=rid:${rid} recv`),
    `a=simulcast:recv ${encodings.map(({ rid }) => rid).join(";")}`,
  ];
}

/** The header extensions of a description of such a track. */
export const ridExtensions = section => ridNames(section).map(([id, uri]) => ({ uri, id }));

/** Has a browser that can name the layers of its packets be ready to. */
export function nameLayers(transceiver) {
  const all = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  if (!all.some(({ uri }) => uri === DEPENDENCIES)) return;
  // One that the peer has added says that it has no mid, which it may not.
  for (const it of all) if (it.uri === DEPENDENCIES || it.uri === MID) it.direction = "sendrecv";
  transceiver.setHeaderExtensionsToNegotiate(all);
}

/** Whether packets of a section say of which layer they are beside their payload. */
export const namesLayers = ({ role, scalabilityMode, layersId, codecs }) =>
  Boolean(layersId && (role === "receive" || scalabilityMode) && codecs[0]?.name === "av1");

/** The encoding of a track in layers of one stream. */
export const scalable = ({ scalabilityMode, ssrc }) => ({ rid: `s${ssrc}`, scalabilityMode });

/** How often a change is tried that others of the same sender, a page's own among them, get in the way of. */
const TRIES = 5;

/** The last change of each sender that is not made yet. */
const changes = new WeakMap();

/**
 * Changes the parameters of a sender, once all earlier changes of it are made: with each, a browser forgets
 * that it has been asked for them. `change` gets them, and says whether there is anything to change.
 */
export function adjust(sender, change) {
  const make = async () => {
    for (let tries = 0; tries < TRIES; tries++) {
      const parameters = sender.getParameters();
      if (!parameters.encodings?.length || !change(parameters)) return;
      try {
        await sender.setParameters(parameters);
        return;
      } catch (error) {
        // What a browser cannot do it goes on without.
        if (!["InvalidStateError", "InvalidModificationError"].includes(error.name)) return;
      }
    }
  };
  const made = changes.has(sender) ? changes.get(sender).then(make) : make();
  changes.set(sender, made);
  made.then(() => { if (changes.get(sender) === made) changes.delete(sender); });
}

/** Has pictures be sent in layers. A browser that cannot goes on without. */
export function scale(sender, scalabilityMode) {
  adjust(sender, ({ encodings: [encoding] }) => {
    const isOther = encoding.scalabilityMode !== scalabilityMode;
    encoding.scalabilityMode = scalabilityMode;
    return isOther;
  });
}

/** Sets how large each encoding is, and what it takes: `scale` is what all are divided by. */
export function tune(sender, encodings, scale = 1) {
  adjust(sender, parameters => {
    if (parameters.encodings.length !== encodings.length) return false;
    for (const encoding of parameters.encodings) {
      const own = encodings.find(({ rid }) => rid === encoding.rid);
      if (!own) continue;
      encoding.scaleResolutionDownBy = own.scaleResolutionDownBy * scale;
      encoding.maxBitrate = own.maxBitrate;
    }
    return true;
  });
}
