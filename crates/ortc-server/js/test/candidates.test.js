import assert from "node:assert/strict";
import { test } from "node:test";
import { candidateLine, describeCandidate, validateCandidate } from "../ortc/candidates.js";
import { validate } from "../ortc/receiving.js";

const HOST = "candidate:842163049 1 udp 1677729535 192.0.2.33 10000 typ host generation 0";
const REFLEXIVE = "candidate:1 1 UDP 1694498815 203.0.113.7 5000 typ srflx raddr 192.0.2.33 rport 10000";

test("candidates are described as the drafts have them, and given back", () => {
  const host = describeCandidate(HOST);
  assert.deepEqual(host, {
    foundation: "842163049", component: 1, transport: "udp", priority: 1677729535,
    connectionAddress: "192.0.2.33", connectionPort: 10000, type: "host",
  });
  assert.equal(candidateLine(host), HOST.replace(" generation 0", ""));
  const reflexive = describeCandidate(REFLEXIVE);
  assert.deepEqual([reflexive.relAddress, reflexive.relPort, reflexive.transport], ["192.0.2.33", 10000, "udp"]);
  assert.equal(candidateLine(reflexive), REFLEXIVE.replace("UDP", "udp"));
});

test("candidates of TCP say who connects", () => {
  const line = "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active";
  const candidate = describeCandidate(`${line} generation 0`);
  assert.deepEqual([candidate.transport, candidate.connectionPort, candidate.tcpType], ["tcp", 9, "active"]);
  assert.equal(candidateLine(candidate), line);
  validateCandidate(candidate);
  assert.throws(() => validateCandidate({ ...candidate, tcpType: "both" }), /tcpType/);
  for (const wrong of ["typ host", "typ host tcptype", "typ host tcptype both"]) {
    assert.equal(describeCandidate(`candidate:1 1 tcp 1 192.0.2.1 9 ${wrong}`), null, wrong);
  }
});

test("RTCP of its own is left out", () => {
  assert.equal(describeCandidate("candidate:1 2 udp 1 192.0.2.1 9 typ host"), null);
});

test("what is no candidate is refused, and the field is named", () => {
  const host = describeCandidate(HOST);
  validateCandidate(host);
  validateCandidate({ ...host, connectionAddress: "5f0c1b.local" });
  for (const [field, value] of Object.entries({
    foundation: "a b", component: 2, transport: "sctp", priority: 0, connectionAddress: "1 typ host\r\na=x",
    connectionPort: 65536, type: "hosts", relAddress: "a b", relPort: -1,
  })) {
    assert.throws(() => validateCandidate({ ...host, [field]: value }), new RegExp(field), field);
  }
});

test("a track's description is checked, and its SSRC has one spelling", () => {
  const codecs = [{ "payload-id": 96, name: "opus" }];
  const track = { kind: "audio", ssrc: "0012", msid: ["m1"], codecs };
  assert.equal(validate(track).ssrc, "12");
  for (const wrong of [
    { kind: "sound" }, { ssrc: "-1" }, { ssrc: "4294967296" }, { msid: "m1" }, { msid: [""] }, { codecs: [] },
    { codecs: [{ "payload-id": 64, name: "opus" }] }, { codecs: [...codecs, ...codecs] },
    { codecs: [{ "payload-id": 96, name: "a\r\nb" }] },
  ]) {
    assert.throws(() => validate({ ...track, ...wrong }), TypeError, JSON.stringify(wrong));
  }
});
