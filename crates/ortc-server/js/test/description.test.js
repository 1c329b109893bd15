import assert from "node:assert/strict";
import { test } from "node:test";
import { codecsOf, numberId, validateCodecs } from "../ortc/codecs.js";
import { describePeer, sectionsOf, settle, withCredentials } from "../ortc/description.js";

const OPUS = { "payload-id": 111, name: "opus", clockRate: 48000, numChannels: 2 };
const KEYS = { "payload-id": 110, name: "dtmf" };
const VP8 = { "payload-id": 96, name: "vp8", clockRate: 90000 };
const PEER = { usernameFrag: "abcd", password: "p".repeat(22), fingerprint: "AB:CD", isActive: true };

const section = (role, more = {}) => ({ role, kind: "audio", mid: "0", codecs: [OPUS], isOpen: true, msid: [], ...more });
const lines = (text, mid) => sectionsOf(text).find(it => it.mid === mid).text.trim().split("\r\n");

test("a described track is announced with its SSRC, its streams and its payload types", () => {
  const text = describePeer(PEER, [
    section("anchor"),
    section("receive", { mid: "o1", ssrc: "1234", msid: ["s1", "s2"], trackId: "t", codecs: [OPUS, KEYS] }),
  ], 3);
  assert.match(text, /^v=0\r\no=- 1 3 IN IP4 127\.0\.0\.1\r\n/);
  assert.match(text, /^a=group:BUNDLE 0 o1\r$/m);
  assert.deepEqual(lines(text, "o1"), [
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 110", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0", "a=ice-ufrag:abcd",
    `a=ice-pwd:${"p".repeat(22)}`, "a=ice-options:trickle", "a=fingerprint:sha-256 AB:CD", "a=setup:active",
    "a=mid:o1", "a=sendonly", "a=rtcp-mux", "a=rtcp-rsize", "a=rtpmap:111 opus/48000/2",
    "a=rtpmap:110 telephone-event/48000", "a=fmtp:110 0-15", "a=msid:s1 t", "a=msid:s2 t", "a=ssrc:1234 cname:t",
  ]);
});

test("what is sent is open or closed, what has ended is rejected, the anchor stays", () => {
  const text = describePeer({ ...PEER, isActive: false }, [
    section("anchor"), section("send", { mid: "1" }), section("send", { mid: "2", isOpen: false }),
    section("gone", { mid: "3" }),
  ], 1);
  const found = sectionsOf(text).map(({ mid, direction, isRejected }) => [mid, direction, isRejected]);
  assert.deepEqual(found, [["0", "inactive", false], ["1", "recvonly", false], ["2", "inactive", false], ["3", "inactive", true]]);
  assert.match(text, /a=group:BUNDLE 0 1 2\r\n/);
  assert.match(text, /a=setup:passive/);
});

test("pictures are asked for repairs and begin at a bit rate that shows something", () => {
  const text = describePeer(PEER, [section("send", { kind: "video", codecs: [VP8] })], 1);
  for (const line of ["nack", "nack pli", "ccm fir"]) assert.ok(text.includes(`a=rtcp-fb:96 ${line}\r\n`), line);
  assert.match(text, /a=fmtp:96 x-google-start-bitrate=\d+\r\n/);
});

test("an id of header extensions has one name for all that follows, and what clashes is left out", () => {
  const TRANSPORT = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
  const RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
  const codecs = [{ ...VP8, rtcpFeedback: ["nack", "transport-cc"] }];
  const received = section("receive", { kind: "video", mid: "r", ssrc: "1", trackId: "t", codecs, numberId: 3 });
  const sent = section("send", { kind: "video", mid: "s", codecs: [VP8], encodings: [{ rid: "q" }], ids: { rid: 3 } });
  const about = (text, mid) => lines(text, mid).filter(line => /extmap|transport-cc/.test(line));
  const named = new Map();
  // What the browser sends goes first, wherever it stands.
  for (const sections of [[received, sent], [received]]) {
    const text = describePeer(PEER, sections, 1, new Map(), named);
    assert.deepEqual(about(text, "r"), []);
    if (sections.includes(sent)) assert.deepEqual(about(text, "s"), [`a=extmap:3 ${RID}`]);
  }
  assert.deepEqual(about(describePeer(PEER, [received], 1), "r"), [`a=extmap:3 ${TRANSPORT}`, "a=rtcp-fb:96 transport-cc"]);
});

const DEPENDENCIES = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

test("what packets of AV1 say of their layers is named where they do, and room for it is made", () => {
  const AV1 = { "payload-id": 45, name: "av1", clockRate: 90000 };
  const about = (role, more) => describePeer(PEER, [
    section(role, { kind: "video", ssrc: "1", trackId: "t", codecs: [AV1], layersId: 12, ...more }),
  ], 1).split("\r\n").filter(line => line.startsWith("a=extmap"));
  const named = ["a=extmap-allow-mixed", `a=extmap:12 ${DEPENDENCIES}`];
  assert.deepEqual(about("receive"), named);
  assert.deepEqual(about("send", { scalabilityMode: "L3T3_KEY" }), named);
  assert.deepEqual(about("send"), []);
  assert.deepEqual(about("receive", { layersId: null }), []);
  assert.deepEqual(about("send", { scalabilityMode: "L3T3_KEY", codecs: [VP8] }), []);
});

const NUMBERS = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

test("the numbers of packets are named where there is feedback about them, and else nothing of it", () => {
  const codecs = [{ ...VP8, rtcpFeedback: ["nack", "transport-cc"] }];
  const video = more => section("receive", { kind: "video", ssrc: "1", trackId: "t", codecs, ...more });
  const about = more => describePeer(PEER, [video(more)], 1).split("\r\n").filter(line => /transport/.test(line));
  assert.deepEqual(about({ numberId: 7 }), [`a=extmap:7 ${NUMBERS}`, "a=rtcp-fb:96 transport-cc"]);
  assert.deepEqual(about({ numberId: null }), []);
  assert.deepEqual(about({ numberId: 7, codecs: [{ ...VP8, rtcpFeedback: ["nack"] }] }), []);
  assert.deepEqual(about({ numberId: 7, codecs: [VP8] }), []);
  const own = `v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=extmap:2/sendonly urn:x\r\na=extmap:5 ${NUMBERS}\r\n`;
  assert.equal(sectionsOf(own)[0].numberId, 5);
  assert.equal(sectionsOf("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n")[0].numberId, null);
});

test("the id of the numbers is taken from a description that has feedback about them", () => {
  const codecs = [{ ...VP8, rtcpFeedback: ["transport-cc"] }];
  const id = (headerExtensions, all = codecs) => numberId({ headerExtensions, codecs: all });
  assert.equal(id([{ uri: "urn:x", id: 1 }, { uri: NUMBERS, id: 3 }]), 3);
  assert.equal(id([{ uri: NUMBERS, id: 3 }], [VP8]), null);
  for (const wrong of [undefined, null, 5, "x", [], [null], [{ uri: NUMBERS }], [{ uri: NUMBERS, id: 15 }], [{ uri: NUMBERS, id: "3" }]]) {
    assert.equal(id(wrong), null);
  }
});

const RTX = { "payload-id": 97, name: "rtx", params: [{ name: "apt", value: "96" }] };
const picture = (more = {}) =>
  section("receive", { kind: "video", mid: "o1", ssrc: "7", rtxSsrc: "8", trackId: "t", codecs: [VP8, RTX], ...more });

test("what is sent again is announced with its types and its SSRC", () => {
  const sent = { ...VP8, rtcpFeedback: ["nack", "nack pli", "x y\r\na=z"] };
  const found = lines(describePeer(PEER, [picture({ codecs: [sent, RTX] })], 1), "o1");
  assert.deepEqual(found.slice(found.indexOf("a=rtcp-rsize") + 1), [
    "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli", "a=fmtp:96 x-google-start-bitrate=1000",
    "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96",
    "a=msid:- t", "a=ssrc-group:FID 7 8", "a=ssrc:7 cname:t", "a=ssrc:8 cname:t",
  ]);
});

test("rtx whose number stands for something else is left out, and nothing is asked for that would come by it", () => {
  const other = { "payload-id": 97, name: "h264", clockRate: 90000 };
  const nack = { ...VP8, rtcpFeedback: ["nack", "ccm fir"] };
  const text = describePeer(PEER, [
    section("send", { kind: "video", mid: "1", codecs: [other] }), picture({ codecs: [nack, RTX] }),
    picture({ mid: "o2", codecs: [nack], rtxSsrc: null }),
  ], 1);
  const found = mid => lines(text, mid).filter(line => /rtx|FID|rtcp-fb|a=ssrc:/.test(line));
  assert.deepEqual(found("o1"), ["a=rtcp-fb:96 ccm fir", "a=ssrc:7 cname:t"]);
  // Sent again on the SSRC of the track, it is asked for.
  assert.deepEqual(found("o2"), ["a=rtcp-fb:96 nack", "a=rtcp-fb:96 ccm fir", "a=ssrc:7 cname:t"]);
});

test("a spare section that makes room takes its rtx along", () => {
  const spare = section("send", { kind: "video", isFree: true, codecs: [VP8, RTX] });
  settle([spare, section("receive", { mid: "1", codecs: [{ ...VP8, name: "h264" }] })]);
  assert.deepEqual(spare.codecs, [
    { ...VP8, "payload-id": 127 }, { ...RTX, params: [{ name: "apt", value: "127" }] },
  ]);
  settle([spare, picture({ codecs: [VP8, RTX] })]);
  assert.deepEqual(spare.codecs.map(codec => codec["payload-id"]), [127, 126]);
});

test("the browser's own codecs are described with what it acts upon", () => {
  const text = ["m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack",
    "a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 unheard of", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96",
    "a=rtpmap:102 foo/90000", "a=rtpmap:103 rtx/90000", "a=fmtp:103 apt=102", ""].join("\r\n");
  assert.deepEqual(codecsOf(text), [
    { ...VP8, kind: "video", rtcpFeedback: ["nack", "nack pli"] },
    { ...RTX, kind: "video", clockRate: 90000 },
  ]);
  const [own] = sectionsOf(`v=0\r\n${text}a=ssrc-group:FID 1 2\r\na=ssrc:1 cname:x\r\n`);
  assert.deepEqual([own.ssrc, own.rtxSsrc], ["1", "2"]);
});

test("rtx of what is not described is refused", () => {
  assert.throws(() => validateCodecs([RTX]), /apt/);
  assert.throws(() => validateCodecs([VP8, { ...RTX, params: [{ name: "apt", value: "97" }] }]), /apt/);
  assert.throws(() => validateCodecs([{ ...VP8, rtcpFeedback: "nack" }]), /rtcpFeedback/);
  validateCodecs([VP8, RTX]);
});

test("a payload type stands for one codec: what is sent goes before what is described", () => {
  const [sent, other, same] = [
    section("send"), section("receive", { mid: "1", codecs: [{ ...OPUS, "payload-id": 111, name: "ulaw" }] }),
    section("receive", { mid: "2", codecs: [{ ...OPUS, params: [{ name: "stereo", value: "1" }] }] }),
  ];
  const settled = settle([sent, other, same]);
  assert.deepEqual(settled.get(sent).map(({ codec }) => codec), [OPUS]);
  assert.deepEqual(settled.get(other), []);
  // The same codec with other parameters is that codec: whoever sends says what it sends.
  assert.deepEqual(settled.get(same).map(({ codec }) => codec), [OPUS]);
});

test("a spare section makes room, and what was told stays", () => {
  const spare = section("send", { isFree: true, codecs: [OPUS] });
  const described = section("receive", { mid: "1", codecs: [{ "payload-id": 111, name: "ulaw", clockRate: 8000 }] });
  settle([spare, described]);
  assert.deepEqual(spare.codecs, [{ ...OPUS, "payload-id": 127 }]);

  const told = new Map();
  settle([section("receive", { codecs: [OPUS, { ...KEYS, clockRate: 48000 }] })], told);
  const later = section("receive", { codecs: [{ "payload-id": 0, name: "ulaw" }, { ...KEYS, clockRate: 8000 }] });
  assert.deepEqual(settle([later], told).get(later).map(({ codec }) => codec.clockRate), [undefined, 48000]);
});

test("a second telephone line of any number is never described into a text that it does not belong to", () => {
  const params = [{ name: "a\r\na=x", value: "1" }, { name: "ok", value: "2\r\na=y" }, { name: "ok", value: "3" }];
  const text = describePeer(PEER, [section("receive", { ssrc: "1", trackId: "t", codecs: [{ ...OPUS, params }] })], 1);
  assert.doesNotMatch(text, /a=[xy]/);
  assert.match(text, /a=fmtp:111 ok=3\r\n/);
});

test("our own credentials take the place of the browser's", () => {
  const own = { usernameFrag: "mine", password: "secret" };
  assert.equal(withCredentials("a=ice-ufrag:x\r\na=ice-pwd:y\r\na=ice-ufrag:x\r\n", own),
    "a=ice-ufrag:mine\r\na=ice-pwd:secret\r\na=ice-ufrag:mine\r\n");
});

const RED = { "payload-id": 63, name: "red", params: [{ name: "payloadTypes", value: "111/111" }] };

test("sound that repeats itself is spelled as browsers have it, and not told without what it repeats", () => {
  const announced = codecs => lines(describePeer(PEER, [section("receive", { ssrc: "1", trackId: "t", codecs })], 1), "0");
  const text = announced([RED, OPUS]);
  assert.match(text[0], / 63 111$/);
  for (const line of ["a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111"]) assert.ok(text.includes(line), line);
  assert.match(announced([OPUS, { ...RED, params: [{ name: "payloadTypes", value: "9/9" }] }])[0], / 111$/);
  const own = [
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63", "a=rtpmap:111 opus/48000/2", "a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111",
    "a=rtpmap:109 red/90000", "a=rtpmap:110 telephone-event/48000",
  ].join("\r\n");
  const red = codecsOf(own).filter(({ name }) => name === "red");
  assert.deepEqual(red, [{ "payload-id": 63, name: "red", kind: "audio", clockRate: 48000, numChannels: 2, params: RED.params }]);
});
