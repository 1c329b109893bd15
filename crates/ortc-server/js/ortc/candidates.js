// Candidates: the drafts' objects, and the line of RFC 8839 §5.1 that a browser takes and gives.

const TYPES = ["host", "srflx", "prflx", "relay"];

const TCP_TYPES = ["active", "passive", "so"];

/**
 * The drafts' description of a candidate that the browser has found. One of TCP has a `tcpType`,
 * an addition of ours: without it nobody could use it, and it is null.
 */
export function describeCandidate(line) {
  const [foundation, component, transport, priority, address, port, , type, ...rest] =
    line.replace(/^(a=)?candidate:/, "").trim().split(/\s+/);
  // Of a second component, RTCP, there is never need: it goes with RTP.
  if (!/^(udp|tcp)$/i.test(transport ?? "") || component !== "1" || !TYPES.includes(type)) return null;
  const candidate = {
    foundation,
    component: Number(component),
    transport: transport.toLowerCase(),
    priority: Number(priority),
    connectionAddress: address,
    connectionPort: Number(port),
    type,
  };
  const after = name => rest[rest.indexOf(name) + 1];
  if (type !== "host" && rest.includes("raddr") && rest.includes("rport")) {
    candidate.relAddress = after("raddr");
    candidate.relPort = Number(after("rport"));
  }
  if (candidate.transport === "tcp") {
    if (!rest.includes("tcptype") || !TCP_TYPES.includes(after("tcptype"))) return null;
    candidate.tcpType = after("tcptype");
  }
  return candidate;
}

/** Throws a TypeError that names the field, unless this is a candidate. */
export function validateCandidate(candidate) {
  const wrong = (field, what) => { throw new TypeError(`candidate: ${field} ${what}`); };
  if (candidate === null || typeof candidate !== "object") throw new TypeError("no candidate");
  const { foundation, component, transport, priority, connectionAddress, connectionPort, type } = candidate;
  if (!/^[A-Za-z0-9+/]{1,32}$/.test(foundation ?? "")) wrong("foundation", "is not 1 to 32 ice-chars");
  if (component !== 1) wrong("component", "is not 1");
  if (!/^(udp|tcp)$/i.test(transport ?? "")) wrong("transport", "is not udp or tcp");
  if (!Number.isInteger(priority) || priority < 1 || priority > 2 ** 32 - 1) wrong("priority", "is out of range");
  if (!/^[0-9A-Za-z.:%_-]{1,255}$/.test(connectionAddress ?? "")) wrong("connectionAddress", "is no address");
  if (!isPort(connectionPort, 1)) wrong("connectionPort", "is not 1 to 65535");
  if (!TYPES.includes(type)) wrong("type", `is not one of ${TYPES.join(", ")}`);
  if (candidate.relAddress != null && !/^[0-9A-Za-z.:%_-]{1,255}$/.test(candidate.relAddress)) {
    wrong("relAddress", "is no address");
  }
  if (candidate.relPort != null && !isPort(candidate.relPort, 0)) wrong("relPort", "is no port");
  if (candidate.tcpType != null && !TCP_TYPES.includes(candidate.tcpType)) {
    wrong("tcpType", `is not one of ${TCP_TYPES.join(", ")}`);
  }
}

const isPort = (port, least) => Number.isInteger(port) && port >= least && port <= 65535;

/** A described candidate as the browser takes it. */
export function candidateLine(c) {
  const base = c.relAddress != null && c.relPort != null ? ` raddr ${c.relAddress} rport ${c.relPort}` : "";
  const tcp = c.tcpType != null ? ` tcptype ${c.tcpType}` : "";
  return `candidate:${c.foundation} ${c.component} ${c.transport.toLowerCase()} ${c.priority} ` +
    `${c.connectionAddress} ${c.connectionPort} typ ${c.type}${base}${tcp}`;
}
