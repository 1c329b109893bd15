// Codecs: the drafts' names and objects, and how a browser spells them.

/** The drafts' name, the browser's, and what goes without saying. */
const KNOWN = [
  { name: "opus", wire: "opus", kind: "audio", clockRate: 48000, numChannels: 2 },
  { name: "alaw", wire: "PCMA", kind: "audio", clockRate: 8000, numChannels: 1, others: ["pcma"] },
  { name: "ulaw", wire: "PCMU", kind: "audio", clockRate: 8000, numChannels: 1, others: ["pcmu"] },
  { name: "red", wire: "red", kind: "audio", clockRate: 48000, numChannels: 2, isRepeat: true },
  { name: "dtmf", wire: "telephone-event", kind: "dtmf", others: ["telephone-event"] },
  { name: "vp8", wire: "VP8", kind: "video", clockRate: 90000 },
  { name: "vp9", wire: "VP9", kind: "video", clockRate: 90000 },
  { name: "av1", wire: "AV1", kind: "video", clockRate: 90000 },
  { name: "h264", wire: "H264", kind: "video", clockRate: 90000 },
  { name: "rtx", wire: "rtx", kind: "video", isRepair: true },
];

/** What is known of a codec by its name, whatever its case; undefined if nothing is. */
export function known(name) {
  const lower = String(name).toLowerCase();
  return KNOWN.find(codec => codec.name === lower || codec.others?.includes(lower));
}

/**
 * What a sender of pictures acts upon (RFC 4585, RFC 5104): a browser does, and a peer that does
 * not say is asked for it.
 */
const FEEDBACK = ["nack", "nack pli", "ccm fir", "goog-remb"];

/** When each packet has come: the sender has to number its packets for that. */
export const TRANSPORT_WIDE = "transport-cc";

/** The header extension with the numbers of a connection's packets. */
export const NUMBERS = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/** The id that a section of the browser's own has for a header extension; null without one. */
export function extensionId(section, uri) {
  const all = section.matchAll(/^a=extmap:(\d+)\S* (\S+)/gm);
  const id = [...all].find(([, , other]) => other === uri)?.[1];
  return id ? Number(id) : null;
}

/**
 * The id that a description has for one; null without, or if it is none of the short form, which is
 * all that a browser writes.
 */
export function describedId({ headerExtensions }, uri) {
  const named = Array.isArray(headerExtensions) ? headerExtensions.find(it => it?.uri === uri) : null;
  return Number.isInteger(named?.id) && named.id >= 1 && named.id <= 14 ? named.id : null;
}

/** The id that a description has for these numbers, if its sender acts upon feedback about them. */
export function numberId(description) {
  const isAnswered = description.codecs.some(({ rtcpFeedback }) => rtcpFeedback?.includes(TRANSPORT_WIDE));
  return isAnswered ? describedId(description, NUMBERS) : null;
}

/** Of `rtx`, the payload type of what it sends again (RFC 4588); null of all others. */
export function associated({ name, params = [] }) {
  if (!known(name)?.isRepair) return null;
  const apt = params.find(param => param.name === "apt")?.value;
  return /^\d{1,3}$/.test(apt ?? "") ? Number(apt) : null;
}

/** Of `red`, the payload types of what is in its packets (RFC 2198); null of all others. */
export function repeated({ name, params = [] }) {
  if (!known(name)?.isRepeat) return null;
  const types = params.find(param => param.name === "payloadTypes")?.value;
  return /^\d{1,3}(\/\d{1,3})*$/.test(types ?? "") ? types.split("/").map(Number) : [];
}

/** Whether a codec is sound or pictures by itself, and stands beside no other. */
export const isMedia = (codec, kind) => {
  const is = known(codec.name);
  return is?.kind === kind && !is.isRepair && !is.isRepeat;
};

/** The codec `rtx` among these by which a codec is sent again; undefined if there is none. */
export const repairOf = (codec, codecs) => codecs.find(it => associated(it) === codec["payload-id"]);

/** Whether packets of both have one meaning, if they have one payload type. */
export function isSame(one, other) {
  return known(one.name) === known(other.name) && associated(one) === associated(other);
}

/**
 * The codecs of one section of the browser's own description, as the drafts have them, in its
 * order: each name once, keys once for each clock rate, and `rtx` once for each that has it.
 */
export function codecsOf(section) {
  const params = new Map();
  for (const [, id, text] of section.matchAll(/^a=fmtp:(\d+) (.*?)\r?$/gm)) {
    params.set(id, text.split(";").map(pair => {
      const [name, ...value] = pair.trim().split("=");
      return { name, value: value.length ? value.join("=") : null };
    }));
  }
  const order = section.match(/^m=\S+ \S+ \S+ (.*?)\r?$/m)[1].split(" ");
  const maps = [...section.matchAll(/^a=rtpmap:(\d+) ([^/\s]+)\/(\d+)(?:\/(\d+))?/gm)];
  maps.sort((a, b) => order.indexOf(a[1]) - order.indexOf(b[1]));
  const codecs = [];
  const repairs = [];
  const feedback = new Map();
  for (const [, id, what] of section.matchAll(/^a=rtcp-fb:(\S+) (.*?)\r?$/gm)) {
    if (FEEDBACK.includes(what) || what === TRANSPORT_WIDE) feedback.set(id, [...(feedback.get(id) ?? []), what]);
  }
  for (const [, id, wire, rate] of maps) {
    const codec = KNOWN.find(codec => codec.wire.toLowerCase() === wire.toLowerCase());
    // There is one of pictures by that name, which is another thing.
    if (!codec || (codec.isRepeat && Number(rate) !== codec.clockRate)) continue;
    const found = describe(codec, Number(id), Number(rate), params.get(id));
    if (codec.isRepair) {
      repairs.push(found);
      continue;
    }
    if (codec.kind === "video") found.rtcpFeedback = feedback.get(id) ?? [];
    const at = codecs.findIndex(other =>
      other.name === codec.name && (codec.kind !== "dtmf" || other.clockRate === found.clockRate));
    if (at < 0) codecs.push(found);
    else if (codec.name === "h264" && rank(found) > rank(codecs[at])) codecs[at] = found;
  }
  return [...codecs, ...codecs.map(codec => repairOf(codec, repairs)).filter(Boolean)];
}

function describe({ name, kind, numChannels }, id, clockRate, params = []) {
  const codec = { "payload-id": id, name, kind, clockRate };
  if (numChannels) codec.numChannels = numChannels;
  if (name === "red") codec.params = [{ name: "payloadTypes", value: params[0]?.name ?? "" }];
  else if (kind !== "dtmf" && params.length) codec.params = params;
  return codec;
}

/**
 * The codec for keys beside this sound: of its clock rate, where the browser has that. With two
 * rates beside Opus a browser mixes them up, so only one is ever named.
 */
export function keysBeside(sound, codecs) {
  const keys = codecs.filter(codec => codec.kind === "dtmf");
  return keys.find(codec => codec.clockRate === sound?.clockRate) ?? keys[0] ?? null;
}

/** Of the H.264 profiles the one that every peer has: constrained baseline in mode 1. */
function rank({ params = [] }) {
  const value = name => params.find(param => param.name === name)?.value ?? "";
  return (value("packetization-mode") === "1" ? 2 : 0) + (/^42e0/i.test(value("profile-level-id")) ? 1 : 0);
}

/** Throws a TypeError that says why this is no list of codecs. */
export function validateCodecs(codecs) {
  if (!Array.isArray(codecs) || codecs.length < 1 || codecs.length > 96) {
    throw new TypeError("codecs is not a list of 1 to 96");
  }
  const seen = new Set();
  for (const codec of codecs) {
    const id = codec?.["payload-id"];
    if (!Number.isInteger(id) || id < 0 || id > 127 || (id > 63 && id < 96)) {
      throw new TypeError(`codecs: payload-id ${id} is not 0 to 63 or 96 to 127`);
    }
    if (typeof codec.name !== "string" || !/^[\w.+-]{1,64}$/.test(codec.name)) {
      throw new TypeError(`codecs: payload-id ${id} has no name`);
    }
    if (seen.has(id)) throw new TypeError(`codecs: payload-id ${id} is there twice`);
    seen.add(id);
    const feedback = codec.rtcpFeedback ?? [];
    if (!Array.isArray(feedback) || feedback.length > 32 || !feedback.every(what => typeof what === "string")) {
      throw new TypeError(`codecs: the rtcpFeedback of payload-id ${id} is no list of at most 32 strings`);
    }
  }
  for (const codec of codecs.filter(codec => known(codec.name)?.isRepair)) {
    const original = codecs.find(it => it["payload-id"] === associated(codec));
    if (!original || known(original.name)?.isRepair) {
      throw new TypeError(`codecs: the apt of payload-id ${codec["payload-id"]} is no payload-id of another codec`);
    }
  }
}

/** The clock rate of a described codec; keys without one go at the rate of the sound. */
export function clockRate(codec, codecs) {
  if (codec.clockRate) return codec.clockRate;
  const is = known(codec.name);
  if (is?.clockRate) return is.clockRate;
  const original = codecs.find(other => other["payload-id"] === associated(codec));
  if (original && original !== codec) return clockRate(original, codecs);
  const sound = codecs.find(other => known(other.name)?.kind === "audio");
  return sound ? clockRate(sound, codecs) : 8000;
}

/** Whether two lists say the same, so that a description that is repeated is one description. */
export const sameCodecs = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const IS_PARAM = /^[\w.+-]{1,64}$/;
const IS_VALUE = /^[\x21-\x3a\x3c-\x7e]{0,512}$/;
const IS_FEEDBACK = /^[\w.+-]{1,32}( [\w.+-]{1,32}){0,2}$/;

/**
 * The lines by which a browser knows a codec under its payload type. `feedback` is what its sender
 * acts upon, as far as it has said so.
 */
export function codecLines(codec, codecs, rateOfKeys, feedback) {
  const is = known(codec.name);
  const id = codec["payload-id"];
  const rate = is.kind === "dtmf" && rateOfKeys ? rateOfKeys : clockRate(codec, codecs);
  const channels = is.name === "opus" || is.isRepeat ? "/2" : "";
  const params = (codec.params ?? [])
    .filter(({ name, value }) => IS_PARAM.test(name) && IS_VALUE.test(value ?? ""))
    .map(({ name, value }) => (value == null ? name : `${name}=${value}`));
  if (is.kind === "dtmf") params.splice(0, params.length, "0-15");
  if (is.isRepeat) params.splice(0, params.length, repeated(codec).join("/"));
  return [
    `a=rtpmap:${id} ${is.wire}/${rate}${channels}`,
    ...(params.length ? [`a=fmtp:${id} ${params.join(";")}`] : []),
    ...feedbackOf(is, feedback).map(what => `a=rtcp-fb:${id} ${what}`),
  ];
}

function feedbackOf({ kind, isRepair }, feedback) {
  if (isRepair || kind === "dtmf") return [];
  return feedback?.filter(what => IS_FEEDBACK.test(what)) ?? (kind === "video" ? FEEDBACK : []);
}
