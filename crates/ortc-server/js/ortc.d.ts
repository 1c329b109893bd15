// The types of ortc.js. What is signalled is in a file of its own, which is generated from the Rust types.

import type {
  RTCCodec, RTCIceCandidateDescription, RTCIceConnectionInfo, RTCIceServer, RTCMediaAttributes, RTCTrackDescription,
} from "./signalled.js";

export type {
  RTCCodec, RTCCodecParam, RTCIceCandidateDescription, RTCIceConnectionInfo, RTCIceServer, RTCMediaAttributes,
  RTCTrackDescription,
} from "./signalled.js";

/** The fingerprints of a certificate, by hash function: `sha-256`; of the peer also `sha-1`. */
export type CertificateFingerprint = Readonly<Record<string, ArrayBuffer>>;

export interface RTCConnectionSide {
  ice: RTCIceConnectionInfo;
  /** Of the remote side null until connected. */
  readonly dtls: { readonly fingerprint: CertificateFingerprint } | null;
}

export interface RTCConnectionOptions {
  iceServers?: RTCIceServer[] | null;
  /** A browser shares no socket: anything but null is a NotSupportedError. */
  socket?: RTCSocket | null;
}

export interface RTCTrackFilter {
  mediaStream?: MediaStream | null;
  kind?: "audio" | "video" | "dtmf" | null;
}

export class RTCSocket {
  private constructor();
}

type Handler<Target, Attributes = unknown> = ((this: Target, event: Event & Attributes) => unknown) | null;

export class RTCConnection extends EventTarget {
  constructor(options?: RTCConnectionOptions);
  readonly local: RTCConnectionSide;
  remote: RTCConnectionSide;
  /** An addition of ours. */
  readonly state: "new" | "connecting" | "connected" | "disconnected" | "closed";
  getLocalSocket(): RTCSocket;
  /** Checks it; in a browser a candidate takes part as soon as it is found. */
  setLocalCandidate(candidate: RTCIceCandidateDescription): void;
  setRemoteCandidate(candidate: RTCIceCandidateDescription): void;
  /** An addition of ours, optional. */
  setRemoteEndOfCandidates(): void;
  /** Once more with other credentials of the peer, of the same certificate, it follows the peer's restart of ICE. */
  connect(): void;
  /**
   * Restarts ICE with new credentials, which it returns, to be signalled to the peer: an addition of ours. Where
   * `RTCCapabilities.restartIce` is false, a NotSupportedError.
   */
  restartIce(): RTCIceConnectionInfo;
  /** A NotSupportedError: see `RTCCapabilities.keepCredentialsOnUpdate`. */
  update(): void;
  addStream(stream: MediaStream, autostart?: boolean | null, options?: {
    /** Pictures in three sizes at once, an addition of ours. */
    simulcast?: boolean;
    /** Pictures in layers of one stream, such as "L3T3_KEY": VP9 and AV1 in Chromium. An addition of ours. */
    scalabilityMode?: string;
  }): void;
  removeStream(stream: MediaStream): void;
  track(track: MediaStreamTrack): RTCTrack | null;
  tracks(filter?: RTCTrackFilter | null): RTCTrack[];
  receiveTrack(description: RTCTrackDescription): void;
  /** Lets go of a described track, such as one that `trackEnded` is said of: an addition of ours. */
  stopReceiving(ssrc: string): boolean;
  addDtmfHandler(container?: MediaStream | MediaStreamTrack | null): RTCDTMFHandler;
  getSendingStreams(): MediaStream[];
  getReceivingStreams(): MediaStream[];
  /** The described tracks of a receiving stream: an addition of ours. */
  receivedTracks(stream: MediaStream): { ssrc: string; track: MediaStreamTrack }[];
  /** What is carried, and how well: an addition of ours. */
  getStats(): Promise<RTCConnectionStats>;
  close(): void;
  oncandidate: Handler<RTCConnection, { candidate: RTCIceCandidateDescription }>;
  onendofcandidates: Handler<RTCConnection>;
  onactivecandidate: Handler<RTCConnection, {
    localCandidate: RTCIceCandidateDescription; remoteCandidate: RTCIceCandidateDescription;
  }>;
  /**
   * The browser has taken new credentials of its own to follow the peer's restart of ICE: they are to be signalled to
   * the peer. Only where `RTCCapabilities.keepCredentialsOnPeerRestart` is false; an addition of ours.
   */
  onicerestart: Handler<RTCConnection, { ice: RTCIceConnectionInfo }>;
  onconnected: Handler<RTCConnection>;
  ondisconnected: Handler<RTCConnection, { reason: "path-lost" | "closed-by-peer" | "closed" }>;
  onaddstream: Handler<RTCConnection, { stream: MediaStream }>;
  /** Never fired in a browser: see `RTCCapabilities.unknownTracks`. */
  onunknowntrack: Handler<RTCConnection, { rtpExtHeaders: Record<string, string> }>;
  onadddtmfhandler: Handler<RTCConnection, { handler: RTCDTMFHandler }>;
  /** Something that was asked for earlier is not possible: an addition of ours. */
  onerror: Handler<RTCConnection, { error: unknown }>;
}

export class RTCTrack {
  private constructor();
  readonly source: MediaStreamTrack;
  readonly kind: "audio" | "video";
  readonly ssrc: string;
  msid: string[];
  codecs: RTCCodec[];
  mediaAttributes: RTCMediaAttributes[] | null;
  /** Null; to set any is a NotSupportedError. */
  rtpExtHeaders: Record<string, string> | null;
  /** An addition of ours. */
  readonly isStarted: boolean;
  getDescription(): RTCTrackDescription;
  start(): void;
  stop(): void;
  remove(): void;
}

export class RTCDTMFHandler extends EventTarget {
  private constructor();
  readonly id: string;
  /** The SSRC of its track. */
  readonly label: string;
  readonly toneBuffer: string;
  readonly duration: number;
  readonly interToneGap: number;
  insertDTMF(tones: string, duration?: number, interToneGap?: number): void;
  ondtmf: Handler<RTCDTMFHandler, { tone: string }>;
}

export interface DTMFTone {
  digits: string;
  duration?: number;
  interToneGap?: number;
}

export class DTMFMediaStreamTrack extends MediaStreamTrack {
  constructor();
  readonly kind: "dtmf";
  play(digits?: string | DTMFTone | DTMFTone[]): void;
  flush(): void;
  tonestart(digit: string): void;
  tonestop(): void;
  ontonestart: Handler<DTMFMediaStreamTrack, { digit: string }>;
  ontonestop: Handler<DTMFMediaStreamTrack, { digit: string }>;
  ontone: Handler<DTMFMediaStreamTrack, { tone: Required<DTMFTone> }>;
}

/** The drafts' lists, and flags of ours: what is false cannot be done, and `reasons` says why. */
export interface RTCCapabilities {
  audioCodecs: RTCCodec[];
  videoCodecs: RTCCodec[];
  receiveTones: boolean;
  withholdLocalCandidate: boolean;
  shareSocket: boolean;
  rtpExtHeaders: boolean;
  unknownTracks: boolean;
  holdTones: boolean;
  keepCredentialsOnUpdate: boolean;
  restartIce: boolean;
  keepCredentialsOnPeerRestart: boolean;
  reasons: Record<string, string>;
}

export interface RTCConnectionStats {
  /** `performance.now()`. */
  at: number;
  /** Seconds. */
  roundTripTime: number | null;
  /** Bits a second, as the browser estimates. */
  availableBitrate: number | null;
  tracks: RTCTrackStats[];
}

export interface RTCTrackStats {
  direction: "sending" | "receiving";
  ssrc: string;
  kind: "audio" | "video";
  codec: string | null;
  bytes: number;
  packets: number;
  lost: number;
  /** Seconds. */
  jitter: number | null;
  width: number | null;
  height: number | null;
  framesPerSecond: number | null;
  frames: number | null;
  freezes: number | null;
  /** Of pictures that are sent, what keeps them from being better, if the browser says so. */
  limitation: "none" | "cpu" | "bandwidth" | "other" | null;
}

/** Also as `navigator.getRTCCapabilities()`. */
export function getRTCCapabilities(): RTCCapabilities;
/** Also as `navigator.getRTCCodec()`. */
export function getRTCCodec(name: string): RTCCodec | null;
/** Completes when as many connections can be constructed at once as after the import. */
export function ready(): Promise<void>;

declare global {
  interface Navigator {
    getRTCCapabilities(): RTCCapabilities;
    getRTCCodec(name: string): RTCCodec | null;
  }
  interface MediaStreamTrackEventMap { connected: Event; disconnected: Event; }
}
