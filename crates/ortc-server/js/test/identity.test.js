import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { credentials, fingerprintOf, isDtlsClient, validateRemote } from "../ortc/identity.js";
import { sha256 } from "../ortc/sha256.js";

const FINGERPRINT = new Uint8Array(32).fill(7);
const own = () => credentials(FINGERPRINT, new Uint8Array(30).fill(0x5a));

test("SHA-256 is that of others, at every length around a block", () => {
  for (const length of [0, 1, 3, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000]) {
    const bytes = Uint8Array.from({ length }, (_, n) => (n * 31) & 255);
    assert.equal(Buffer.from(sha256(bytes)).toString("hex"), createHash("sha256").update(bytes).digest("hex"), `${length}`);
  }
});

test("credentials are ice-chars and carry the fingerprint twice", () => {
  const info = own();
  assert.deepEqual([info.usernameFrag.length, info.password.length], [8, 67]);
  assert.match(info.usernameFrag + info.password, /^[A-Za-z0-9+/]+$/);
  assert.deepEqual(fingerprintOf(info), FINGERPRINT);
  assert.deepEqual(fingerprintOf({ ...info, fingerprint: null }), FINGERPRINT);
});

test("the rule is that of the Rust crates", () => {
  // A password that `ortc_api` makes: 22 characters, the check, the fingerprint.
  const [frag, start] = ["abcdefgh", "0123456789ABCDEFGHIJKL"];
  const check = createHash("sha256").update(frag + start).update(FINGERPRINT).digest("base64").slice(0, 2);
  const password = start + check + Buffer.from(FINGERPRINT).toString("base64").replace(/=+$/, "");
  assert.deepEqual(fingerprintOf({ usernameFrag: frag, password }), FINGERPRINT);
});

test("a password with one changed character carries no fingerprint", () => {
  const info = own();
  for (const index of [0, 21, 22, 23, 24, 60]) {
    const other = info.password[index] === "A" ? "B" : "A";
    const password = info.password.slice(0, index) + other + info.password.slice(index + 1);
    assert.equal(fingerprintOf({ usernameFrag: info.usernameFrag, password }), null, `character ${index}`);
  }
  assert.equal(fingerprintOf({ usernameFrag: "abcd", password: "x".repeat(22) }), null);
  assert.throws(() => fingerprintOf({ ...info, fingerprint: "sha-1 AB" }), SyntaxError);
});

test("the bytewise smaller is the DTLS client", () => {
  const [a, b] = [{ usernameFrag: "+a", password: "z" }, { usernameFrag: "Za", password: "a" }];
  assert.deepEqual([isDtlsClient(a, b), isDtlsClient(b, a)], [true, false]);
});

test("what cannot be a peer's credentials is an error", () => {
  const info = own();
  const bad = remote => assert.throws(() => validateRemote(remote, info));
  bad({ usernameFrag: "abc", password: "x".repeat(22) });
  bad({ usernameFrag: "abcd", password: "x".repeat(21) });
  bad({ usernameFrag: "ab\r\ncd", password: "x".repeat(22) });
  bad({ ...info });
  validateRemote({ usernameFrag: "abcd", password: "x".repeat(22) }, info);
});
