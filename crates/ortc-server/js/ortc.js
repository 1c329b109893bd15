// The ORTC drafts' API in a browser. Importing this is all that a page has to prepare: afterwards
// `new RTCConnection()` answers at once. The names are exported, and are global as the drafts have
// them, unless a browser has something of that name itself.

import { RTCConnection, RTCSocket } from "./ortc/connection.js";
import { DTMFMediaStreamTrack, RTCDTMFHandler } from "./ortc/dtmf.js";
import { getRTCCapabilities, getRTCCodec } from "./ortc/capabilities.js";
import { prepared } from "./ortc/prepare.js";
import { RTCTrack } from "./ortc/track.js";

export {
  DTMFMediaStreamTrack, RTCConnection, RTCDTMFHandler, RTCSocket, RTCTrack, getRTCCapabilities, getRTCCodec,
  prepared as ready,
};

await prepared();

const put = (target, values) => {
  for (const [name, value] of Object.entries(values)) {
    if (!(name in target)) Object.defineProperty(target, name, { value, configurable: true, writable: true });
  }
};
put(globalThis, { DTMFMediaStreamTrack, RTCConnection, RTCDTMFHandler, RTCSocket, RTCTrack });
put(navigator, { getRTCCapabilities, getRTCCodec });
