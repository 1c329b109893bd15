// Who a peer is: ICE credentials that carry the fingerprint of its certificate, and the roles that
// follow from them. The same rule as in the Rust crates (`ortc_api`, "identity"):
//
//   22 random ice-chars | 2 check characters | 43 characters of unpadded base64 of the SHA-256
//
// The check characters are the first 12 bits of SHA-256 over the username fragment, the 22
// characters and the fingerprint.

import { sha256 } from "./sha256.js";

const RANDOM = 22;
const CHECK = 2;
const PASSWORD = RANDOM + CHECK + 43;
const ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const IS_ICE_CHARS = /^[A-Za-z0-9+/]+$/;

const bytesOf = text => new TextEncoder().encode(text);
const base64 = bytes => btoa(String.fromCharCode(...bytes)).replaceAll("=", "");

function check(usernameFrag, random, fingerprint) {
  return base64(sha256(new Uint8Array([...bytesOf(usernameFrag + random), ...fingerprint])))
    .slice(0, CHECK);
}

/** `AB:CD:…` to bytes; null if it is no SHA-256. */
export function parseHex(text) {
  const is = /^[0-9a-f]{2}(:[0-9a-f]{2}){31}$/i.test(text);
  return is ? Uint8Array.from(text.split(":"), pair => parseInt(pair, 16)) : null;
}

/** Bytes as `AB:CD:…`. */
export const hex = bytes =>
  Array.from(bytes, byte => byte.toString(16).padStart(2, "0").toUpperCase()).join(":");

/** Credentials of a connection whose certificate has this fingerprint. */
export function credentials(fingerprint, random = crypto.getRandomValues(new Uint8Array(30))) {
  const chars = Array.from(random, byte => ICE_CHARS[byte & 63]).join("");
  const [usernameFrag, start] = [chars.slice(0, 8), chars.slice(8, 30)];
  return Object.freeze({
    usernameFrag,
    password: start + check(usernameFrag, start, fingerprint) + base64(fingerprint),
    fingerprint: `sha-256 ${hex(fingerprint)}`,
  });
}

/**
 * The fingerprint that credentials name: the explicit one first, then the one in the password.
 * Null if there is none; an explicit one that cannot be read is an error.
 */
export function fingerprintOf({ usernameFrag, password, fingerprint }) {
  if (fingerprint != null) {
    const [name, text] = String(fingerprint).split(" ");
    const bytes = name.toLowerCase() === "sha-256" ? parseHex(text ?? "") : null;
    if (!bytes) throw new SyntaxError("the remote fingerprint is not sha-256 AB:CD:…");
    return bytes;
  }
  if (password.length !== PASSWORD) return null;
  const [random, found] = [password.slice(0, RANDOM), password.slice(RANDOM, RANDOM + CHECK)];
  let bytes;
  try {
    bytes = Uint8Array.from(atob(password.slice(RANDOM + CHECK) + "="), c => c.charCodeAt(0));
  } catch {
    return null;
  }
  return bytes.length === 32 && check(usernameFrag, random, bytes) === found ? bytes : null;
}

/** Throws unless these can be the peer's credentials (RFC 8445 §5.3). */
export function validateRemote({ usernameFrag, password }, local) {
  const is = (text, least) =>
    typeof text === "string" && text.length >= least && text.length <= 256 && IS_ICE_CHARS.test(text);
  if (!is(usernameFrag, 4) || !is(password, 22)) {
    throw new DOMException(
      "remote.ice has no usernameFrag of 4 to 256 ice-chars and password of 22 to 256",
      "InvalidStateError",
    );
  }
  if (usernameFrag === local.usernameFrag && password === local.password) {
    throw new DOMException("the remote credentials are our own", "InvalidAccessError");
  }
}

/** Whether this side sends the ClientHello: the bytewise smaller does. */
export function isDtlsClient(local, remote) {
  // ice-chars are ASCII: UTF-16 compares them as bytes do.
  const text = info => `${info.usernameFrag}:${info.password}`;
  return text(local) < text(remote);
}

/** A CertificateFingerprint of the drafts: the value by the name of the hash function. */
export function certificateFingerprint(byName) {
  const entries = Object.entries(byName).map(([name, bytes]) => [name, Uint8Array.from(bytes).buffer]);
  return Object.freeze(Object.assign(Object.create(null), Object.fromEntries(entries)));
}
