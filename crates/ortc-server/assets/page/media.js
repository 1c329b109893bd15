// Our own sound and pictures: one stream for microphone and camera, another for the screen.

const SOUND = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };

/** What was chosen here before. Who lets no page keep anything chooses anew. */
export function remembered(key) {
  try { return localStorage.getItem(key) || undefined; } catch { return undefined; }
}

export function remember(key, value) {
  try { localStorage.setItem(key, value); } catch { /* It holds as long as the page does. */ }
}

/** Why a device cannot be had, in words, and what can be done. */
export function reasonOf(error, what) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return `The browser does not let this page use ${what}. Allow it at the address bar and try again. You can stay and watch.`;
    case "NotFoundError":
    case "OverconstrainedError":
      return `No device was found for ${what}. You can stay and watch.`;
    case "NotReadableError":
    case "AbortError":
      return `Another program has ${what}, or the device does not answer. Close that program and try again.`;
    default:
      return globalThis.isSecureContext
        ? `${what[0].toUpperCase()}${what.slice(1)} cannot be used: ${error?.message || error}.`
        : "A browser gives camera and microphone only to pages over https, or of this computer itself. You can stay and watch.";
  }
}

export class Media extends EventTarget {
  /** Microphone and camera, and the keys that go with them. */
  stream = new MediaStream();
  /** The screen, while it is shared. */
  screen = null;
  microphone = remembered("microphone");
  camera = remembered("camera");

  get sound() { return this.stream.getTracks().find(track => track.kind === "audio") ?? null; }
  get picture() { return this.stream.getTracks().find(track => track.kind === "video") ?? null; }

  /** Opens what there is. What cannot be had is returned, as an array of errors with `what`. */
  async open() {
    const want = { audio: this.#constraint(SOUND, this.microphone), video: this.#constraint(PICTURE, this.camera) };
    try {
      this.#take(await this.#ask(want));
      return [];
    } catch {
      // One of the two may still be there.
    }
    const failed = [];
    for (const [kind, what] of [["audio", "the microphone"], ["video", "the camera"]]) {
      try {
        this.#take(await this.#ask({ [kind]: want[kind] }));
      } catch (error) {
        failed.push({ what, error });
      }
    }
    return failed;
  }

  /** Opens a microphone (`audio`) or a camera (`video`), another one than before if so chosen. */
  async reopen(kind) {
    const [base, id] = kind === "audio" ? [SOUND, this.microphone] : [PICTURE, this.camera];
    const wasEnabled = kind === "audio" ? this.sound?.enabled : true;
    const found = await this.#ask({ [kind]: this.#constraint(base, id) });
    this.close(kind);
    this.#take(found);
    if (wasEnabled === false) this.sound.enabled = false;
  }

  /** Closes the microphone or the camera: its light goes out. */
  close(kind) {
    const track = kind === "audio" ? this.sound : this.picture;
    if (!track) return;
    this.stream.removeTrack(track);
    track.stop();
    this.#changed();
  }

  async share() {
    const screen = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: true });
    this.screen = screen;
    const [picture] = screen.getVideoTracks();
    if (picture) picture.contentHint = "detail";
    picture?.addEventListener("ended", () => this.unshare());
    this.#changed();
  }

  unshare() {
    if (!this.screen) return;
    for (const track of this.screen.getTracks()) track.stop();
    this.screen = null;
    this.#changed();
  }

  choose(kind, id) {
    if (kind === "audio") this.microphone = id;
    else this.camera = id;
    remember(kind === "audio" ? "microphone" : "camera", id);
  }

  #constraint(base, id) {
    return id ? { ...base, deviceId: { ideal: id } } : base;
  }

  async #ask(want) {
    if (!navigator.mediaDevices) throw new DOMException("not in this context", "InsecureContext");
    return navigator.mediaDevices.getUserMedia(want);
  }

  #take(found) {
    for (const track of found.getTracks()) {
      this.stream.addTrack(track);
      track.addEventListener("ended", () => {
        this.stream.removeTrack(track);
        this.#changed();
        this.dispatchEvent(Object.assign(new Event("lost"), { kind: track.kind }));
      });
    }
    this.#changed();
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}
