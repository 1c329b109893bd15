// The telephone's keys: pressed and held, by pointer or keyboard, and those that others press.

const KEYS = ["1", "2", "3", "A", "4", "5", "6", "B", "7", "8", "9", "C", "*", "0", "#", "D"];
const NAMES = { "*": "star", "#": "hash" };
const SHOWN = 40;
/** A tone that nobody holds: what the drafts have where no length is said. */
const SHORT_MS = 100;

export class Keypad {
  #buttons = new Map();
  #sent;
  #heard;
  #tones = null;
  #held = null;
  #last = "";

  constructor({ keys, sent, heard, hint }) {
    this.#sent = sent;
    this.#heard = heard;
    this.hint = hint;
    for (const key of KEYS) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = key;
      button.dataset.digit = key;
      if (NAMES[key]) button.setAttribute("aria-label", NAMES[key]);
      if (/[A-D]/.test(key)) button.className = "letter";
      button.addEventListener("pointerdown", event => {
        button.setPointerCapture(event.pointerId);
        this.press(key);
      });
      for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => this.release(key));
      button.addEventListener("keydown", event => {
        if (event.key !== " " && event.key !== "Enter") return;
        event.preventDefault();
        if (!event.repeat) this.press(key);
      });
      button.addEventListener("keyup", event => {
        if (event.key !== " " && event.key !== "Enter") return;
        event.preventDefault();
        this.release(key);
      });
      // Neither pointer nor keyboard: a screen reader, which cannot hold a key.
      button.addEventListener("click", event => {
        if (event.detail || this.#held) return;
        this.press(key);
        setTimeout(() => this.release(key), SHORT_MS);
      });
      button.addEventListener("blur", () => this.release(key));
      this.#buttons.set(key, button);
      keys.append(button);
    }
    this.use(null);
  }

  /** Plays on this DTMFMediaStreamTrack; on none, keys cannot be pressed. */
  use(tones) {
    this.#tones = tones;
    for (const button of this.#buttons.values()) button.disabled = !tones;
    this.hint.textContent = tones
      ? "Press and hold: the tone goes out when you let go, as long as you held it."
      : "Tones go out with the sound of your microphone, and none is there.";
    if (tones) {
      tones.ontonestart = ({ digit }) => {
        this.#sent.textContent = (this.#sent.textContent + digit).slice(-SHOWN);
      };
    }
  }

  /** A key of the keyboard, while the pad is open: whether it was one of ours. */
  typed(key, isDown) {
    const digit = key.toUpperCase();
    if (!this.#buttons.has(digit) || !this.#tones) return false;
    if (isDown) this.press(digit);
    else this.release(digit);
    return true;
  }

  press(key) {
    if (this.#held === key || !this.#tones) return;
    if (this.#held) this.release(this.#held);
    this.#held = key;
    this.#buttons.get(key).dataset.held = "";
    this.#tones.tonestart(key);
  }

  release(key) {
    if (this.#held !== key) return;
    this.#held = null;
    delete this.#buttons.get(key).dataset.held;
    this.#tones.tonestop();
  }

  /** Somebody else has pressed a key. */
  heard(name, digit) {
    const text = this.#heard.textContent;
    this.#heard.textContent = (this.#last === name ? `${text}${digit}` : `${text}${text ? "\n" : ""}${name}: ${digit}`).slice(-200);
    this.#last = name;
    this.#heard.scrollTop = this.#heard.scrollHeight;
  }
}
