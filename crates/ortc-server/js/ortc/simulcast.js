// Pictures in several encodings at once: a room sends each of the others the one it has room for.

/** The header extensions by which packets say of which encoding they are (RFC 8852). */
export const RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
export const REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const MID = "urn:ietf:params:rtp-hdrext:sdes:mid";

/** What a camera of 720p is sent in, the least first: quarter, half and full size. */
const LAYERS = [
  { name: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { name: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { name: "f", scaleResolutionDownBy: 1, maxBitrate: 2_500_000 },
];

/** In a room with Firefox sending several encodings, descriptions that follow failed in its page; one is sent there. */
const IS_TAKEN_ANEW = !/Firefox/.test(globalThis.navigator?.userAgent ?? "");

/** How many tracks can be sent so that are added at once; none where the browser does not do so. */
export const SPARE_SIMULCAST = IS_TAKEN_ANEW ? 2 : 0;

/** The encodings of the `n`th such track of a connection: no two of a connection have one name. */
export const encodingsOf = n => LAYERS.map(({ name, ...rest }) => ({ rid: `${name}${n}`, ...rest }));

/** A number that stands for a track whose encodings have SSRCs that only its packets tell. */
export function trackNumber() {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return String(number || 1);
}

/** The ids of the extensions by which the browser tells encodings apart, in one of its sections. */
export function ridIds(section) {
  const all = [...section.matchAll(/^a=extmap:(\d+)\S* (\S+)/gm)];
  const id = uri => Number(all.find(([, , other]) => other === uri)?.[1] ?? 0);
  return { mid: id(MID), rid: id(RID), repairedRid: id(REPAIRED_RID) };
}

/** The lines of a section in which the peer takes these encodings. */
export function simulcastLines({ encodings, ids }) {
  if (!encodings?.length) return [];
  const { mid, rid, repairedRid } = ids;
  return [
    ...[[mid, MID], [rid, RID], [repairedRid, REPAIRED_RID]].filter(([id]) => id).map(([id, uri]) => `a=extmap:${id} ${uri}`),
    ...encodings.map(({ rid }) => `a=rid:${rid} recv`),
    `a=simulcast:recv ${encodings.map(({ rid }) => rid).join(";")}`,
  ];
}

/** The header extensions of a description of such a track. */
export function ridExtensions({ ids }) {
  return [{ uri: RID, id: ids.rid }, { uri: REPAIRED_RID, id: ids.repairedRid }].filter(({ id }) => id);
}

/** Sets how large each encoding is, and what it takes: `scale` is what all are divided by. */
export function tune(sender, encodings, scale = 1) {
  const parameters = sender.getParameters();
  if (parameters.encodings?.length !== encodings.length) return;
  for (const encoding of parameters.encodings) {
    const own = encodings.find(({ rid }) => rid === encoding.rid);
    if (!own) continue;
    encoding.scaleResolutionDownBy = own.scaleResolutionDownBy * scale;
    encoding.maxBitrate = own.maxBitrate;
  }
  sender.setParameters(parameters).catch(() => {});
}
