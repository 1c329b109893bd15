// What a browser has to be told of its peer, in the only language that it takes. Pure: text from
// what is known, with no round trip to anybody. None of it is seen outside of these modules.
//
// A connection is a list of *sections*, which is bookkeeping of this side alone:
//
//   anchor   carries nothing, and the transport: the first one, and one of each kind, never end
//   send     a track that is sent; closed until it is used, so that its SSRC is known beforehand
//   receive  a track that the peer has described
//   gone     ended: its place is taken by the next one that is added

import { DEPENDENCIES, namesLayers, ridNames, simulcastLines } from "./simulcast.js";
import {
  NUMBERS, TRANSPORT_WIDE, associated, codecLines, extensionId, isSame, known, repairOf, repeated,
} from "./codecs.js";

/** Where pictures begin, in kbit/s: a peer that estimates nothing never says that there is room. */
const START_KBPS = 1000;

/** The browser's description of itself, cut into its sections. */
export function sectionsOf(text) {
  return text.split(/^(?=m=)/m).slice(1).map(section => {
    const [, kind, port] = section.match(/^m=(\S+) (\d+)/);
    const line = pattern => section.match(pattern)?.[1];
    return {
      text: section,
      kind,
      mid: line(/^a=mid:(\S+)/m),
      ssrc: line(/^a=ssrc:(\d+)/m),
      rtxSsrc: line(/^a=ssrc-group:FID \d+ (\d+)/m),
      numberId: extensionId(section, NUMBERS),
      isRejected: port === "0" && !/^a=bundle-only/m.test(section),
      direction: line(/^a=(sendrecv|sendonly|recvonly|inactive)\r?$/m),
    };
  });
}

/** The browser's description of itself, with credentials of our own. */
export function withCredentials(text, { usernameFrag, password }) {
  return text
    .replace(/^a=ice-ufrag:\S+/gm, `a=ice-ufrag:${usernameFrag}`)
    .replace(/^a=ice-pwd:\S+/gm, `a=ice-pwd:${password}`);
}

/**
 * Settles which codec each payload type stands for, once for all sections, as one transport
 * carries them: what is sent goes first, as the peer has been told, then what the peer has
 * described. Spare sections are renumbered if need be. Returns the
 * codecs of each section: none if the number of its first one stands for another codec.
 *
 * `told` is what payload types stood for before: a browser does not take it well when the
 * parameters of a codec change, and for receiving they say little. Keys are read by this code and
 * not by the browser, so their clock rate does not matter to it either.
 */
export function settle(sections, told = new Map()) {
  const taken = new Map();
  const settled = new Map();
  const claim = (section, codec) => {
    const id = codec["payload-id"];
    // A number once given to a codec keeps its parameters, whoever names it next.
    if (!taken.has(id)) {
      const before = told.get(id);
      const own = { codec, all: section.codecs, rateOfKeys: section.rateOfKeys };
      taken.set(id, before && isSame(before.codec, codec) ? before : own);
      told.set(id, taken.get(id));
    }
    const other = taken.get(id);
    // What a sender acts upon is its own: it may differ from section to section.
    return isSame(other.codec, codec) ? { ...other, feedback: codec.rtcpFeedback } : null;
  };
  const rank = ({ role, isFree }) => (role === "anchor" ? 3 : isFree ? 2 : role === "receive" ? 1 : 0);
  const live = sections.filter(({ role }) => role !== "gone");
  for (const section of live.sort((a, b) => rank(a) - rank(b))) {
    if (section.isFree) {
      section.codecs = makeRoom(section.codecs, taken, codec => claim(section, codec));
    }
    const codecs = section.codecs.filter(codec => known(codec.name));
    const claimed = codecs.map(codec => claim(section, codec));
    const keepsFirst = section.role === "anchor" || claimed[0];
    settled.set(section, keepsFirst ? withoutStrays(claimed.filter(Boolean)) : []);
  }
  return settled;
}

/** The codecs, each under a payload type that it can have, and `rtx` with what it sends again. */
function makeRoom(codecs, taken, claim) {
  const moved = new Map();
  return codecs.map(codec => {
    const original = moved.get(associated(codec));
    const own = original === undefined ? codec : { ...codec, params: [{ name: "apt", value: `${original}` }] };
    const settled = claim(own) ? own : renumbered(own, taken);
    if (settled !== own) claim(settled);
    moved.set(codec["payload-id"], settled["payload-id"]);
    return settled;
  });
}

/** Without `rtx` and `red` of what is not there; and a codec whose `rtx` is not there is not sent again. */
function withoutStrays(claimed) {
  const codecs = claimed.map(({ codec }) => codec);
  return claimed.filter(({ codec }) => {
    const original = associated(codec);
    const needed = repeated(codec) ?? (original === null ? [] : [original]);
    return needed.every(id => codecs.some(it => it["payload-id"] === id));
  });
}

/** The codec under a payload type that nothing stands for yet. */
function renumbered(codec, taken) {
  const dynamic = [...Array(32).keys()].map(n => 127 - n).concat([...Array(29).keys()].map(n => 63 - n));
  return { ...codec, "payload-id": dynamic.find(id => !taken.has(id)) ?? codec["payload-id"] };
}

/**
 * The peer, as the browser would have it described.
 *
 * `peer` has `usernameFrag`, `password`, `fingerprint` ("AB:CD:…") and `isActive`: whether it
 * sends the ClientHello. `version` goes up each time. `told` and `named` are kept for the connection:
 * see `settle` and `settleExtensions`.
 */
export function describePeer(peer, sections, version, told, named) {
  const settled = settle(sections, told);
  const extensions = settleExtensions(sections, settled, named);
  const isLive = section => section.role !== "gone" && settled.get(section).length > 0;
  const live = sections.filter(isLive);
  const lines = [
    "v=0",
    `o=- 1 ${version} IN IP4 127.0.0.1`,
    "s=-",
    "t=0 0",
    `a=group:BUNDLE ${live.map(({ mid }) => mid).join(" ")}`,
    "a=msid-semantic:WMS *",
    // What names layers is longer than the short form of header extensions (RFC 8285 §4.2).
    ...(live.some(it => extensions.get(it).has(DEPENDENCIES)) ? ["a=extmap-allow-mixed"] : []),
    ...sections.flatMap(section =>
      isLive(section) ? liveSection(peer, section, settled.get(section), extensions.get(section)) : goneSection(section)),
  ];
  return lines.join("\r\n") + "\r\n";
}

function goneSection({ kind, mid }) {
  return [`m=${kind} 0 UDP/TLS/RTP/SAVPF 0`, "c=IN IP4 0.0.0.0", `a=mid:${mid}`, "a=inactive"];
}

/**
 * The header extensions of each section: names, with their ids. One id has one name for all sections
 * (RFC 8843 §9.1), and keeps it: what the browser sends goes first, and what the peer has under the id
 * of something else is left out.
 */
function settleExtensions(sections, settled, named = new Map()) {
  const rank = ({ role }) => (role === "receive" ? 1 : 0);
  const all = [...sections].sort((a, b) => rank(a) - rank(b)).map(section => {
    const isAnswered = settled.get(section)?.some(({ feedback }) => feedback?.includes(TRANSPORT_WIDE));
    const wanted = [
      ...(section.numberId && isAnswered ? [[section.numberId, NUMBERS]] : []),
      ...(namesLayers(section) ? [[section.layersId, DEPENDENCIES]] : []),
      ...ridNames(section),
    ].filter(([id, uri]) => {
      if (!named.has(id)) named.set(id, uri);
      return named.get(id) === uri;
    });
    return [section, new Map(wanted.map(([id, uri]) => [uri, id]))];
  });
  return new Map(all);
}

function liveSection(peer, section, codecs, extensions) {
  const ids = codecs.map(({ codec }) => codec["payload-id"]).join(" ");
  return [
    `m=${section.kind} 9 UDP/TLS/RTP/SAVPF ${ids}`,
    "c=IN IP4 0.0.0.0",
    "a=rtcp:9 IN IP4 0.0.0.0",
    `a=ice-ufrag:${peer.usernameFrag}`,
    `a=ice-pwd:${peer.password}`,
    "a=ice-options:trickle",
    `a=fingerprint:sha-256 ${peer.fingerprint}`,
    `a=setup:${peer.isActive ? "active" : "passive"}`,
    `a=mid:${section.mid}`,
    `a=${directionOf(section)}`,
    "a=rtcp-mux",
    "a=rtcp-rsize",
    ...[...extensions].map(([uri, id]) => `a=extmap:${id} ${uri}`),
    ...simulcastLines(section),
    ...codecs.flatMap(it =>
      withStart(codecLines(it.codec, it.all, it.rateOfKeys, feedbackOf(section, it, codecs, extensions)), it.codec)),
    ...streamLines(section, codecs),
  ];
}

/**
 * What the sender of a section acts upon. Lost packets that it would send again by an `rtx` that
 * the browser cannot be told of are not asked for.
 */
function feedbackOf({ role, rtxSsrc }, { codec, feedback }, codecs, extensions) {
  const isLost = role === "receive" && rtxSsrc && !repairOf(codec, codecs.map(it => it.codec));
  const isLeftOut = what => (isLost && what === "nack") || (!extensions.has(NUMBERS) && what === TRANSPORT_WIDE);
  return feedback?.filter(what => !isLeftOut(what));
}

/** Pictures begin at a bit rate that shows something. */
function withStart(lines, codec) {
  const { kind, isRepair } = known(codec.name);
  if (kind !== "video" || isRepair) return lines;
  const id = codec["payload-id"];
  const start = `x-google-start-bitrate=${START_KBPS}`;
  const at = lines.findIndex(line => line.startsWith(`a=fmtp:${id} `));
  if (at < 0) return [...lines, `a=fmtp:${id} ${start}`];
  return lines.with ? lines.with(at, `${lines[at]};${start}`) : lines.map((line, n) => (n === at ? `${line};${start}` : line));
}

function directionOf({ role, isOpen }) {
  if (role === "send") return isOpen ? "recvonly" : "inactive";
  return role === "anchor" ? "inactive" : "sendonly";
}

function streamLines({ role, ssrc, rtxSsrc, msid, trackId }, codecs) {
  if (role !== "receive") return [];
  const streams = msid.length ? msid : ["-"];
  const hasRtx = rtxSsrc && codecs.some(({ codec }) => associated(codec) !== null);
  return [
    ...streams.map(stream => `a=msid:${stream} ${trackId}`),
    ...(hasRtx ? [`a=ssrc-group:FID ${ssrc} ${rtxSsrc}`] : []),
    `a=ssrc:${ssrc} cname:${trackId}`,
    ...(hasRtx ? [`a=ssrc:${rtxSsrc} cname:${trackId}`] : []),
  ];
}
