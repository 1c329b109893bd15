// The page of a room: what is seen and pressed. The call itself is in call.js.

import { getRTCCapabilities } from "/ortc.js";
import { Call, memberOf } from "./call.js";
import { Figures } from "./figures.js";
import { Grid } from "./grid.js";
import { Keypad } from "./keypad.js";
import { Media, reasonOf, remember, remembered } from "./media.js";

const $ = id => document.getElementById(id);
const name = decodeURIComponent(location.pathname.replace(/^\/r\//, ""));
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const query = token ? `?token=${encodeURIComponent(token)}` : "";
const socketUrl = `${location.origin.replace(/^http/, "ws")}/rooms/${name}${query}`;

const media = new Media();
const call = new Call(socketUrl, media);
const grid = new Grid($("grid"));
const keypad = new Keypad({ keys: $("keys"), sent: $("sent-keys"), heard: $("heard-keys"), hint: $("keypad-hint") });
/** By stream. */
const tiles = new Map();
/** By the server's name of a member, what it is called here. */
const names = new Map();
const figures = new Figures(call, {
  now: $("now"), plot: $("plot"), legend: $("legend"), path: $("path"), tracks: $("tracks"),
  nameOf: streamName, tileOf: stream => tiles.get(stream),
});

document.title = `${name} – ORTC`;
$("room-name").textContent = name;
$("alone-link").textContent = location.href;
const begun = performance.now();

// Tiles.

function nameOf(member) {
  if (!names.has(member)) names.set(member, `Guest ${names.size + 1}`);
  return names.get(member);
}

function streamName(stream) {
  const member = memberOf(stream.id);
  const first = [...tiles.keys()].find(other => other !== stream && memberOf(other.id) === member);
  const isScreen = first && ![...stream.getTracks()].some(track => track.kind === "audio");
  return isScreen ? `${nameOf(member)}’s screen` : nameOf(member);
}

function addTile(stream, { label, isOwn = false, isScreen = false }) {
  const tile = $("tile").content.firstElementChild.cloneNode(true);
  const video = tile.querySelector("video");
  const words = label ?? streamName(stream);
  tile.querySelector(".name").textContent = words;
  tile.querySelector(".whose").textContent = isOwn && !isScreen ? "your own picture" : words;
  tile.querySelector(".initial").textContent = isOwn ? "You" : words.replace(/\D+/g, "") || words[0];
  tile.querySelector(".initial").style.setProperty("--hue", (170 + 67 * names.size) % 360);
  video.muted = isOwn;
  video.setAttribute("aria-label", isOwn ? "Your own picture" : `Picture of ${words}`);
  video.srcObject = stream;
  if (isOwn && !isScreen) tile.dataset.mirror = "";
  if (isScreen || /screen$/.test(words)) tile.dataset.fit = "contain";
  const size = tile.querySelector(".size");
  const look = () => {
    size.textContent = video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : "";
    const picture = stream.getVideoTracks().find(track => track.readyState === "live");
    const isShown = picture && video.videoWidth > 0 && !picture.muted;
    tile.toggleAttribute("data-picture", Boolean(isShown));
    if (video.videoWidth && video.videoHeight > video.videoWidth) tile.dataset.fit = "contain";
  };
  for (const event of ["loadedmetadata", "resize", "playing", "emptied"]) video.addEventListener(event, look);
  const watch = track => {
    for (const event of ["mute", "unmute", "ended"]) track.addEventListener(event, look);
  };
  stream.getTracks().forEach(watch);
  stream.addEventListener("addtrack", ({ track }) => { watch(track); look(); });
  tile.look = look;
  tile.querySelector(".pin").addEventListener("click", () => grid.pin(grid.pinned === tile ? null : tile));
  if (!isOwn && $("speakers").value) video.setSinkId?.($("speakers").value).catch(() => {});
  video.play().catch(() => { if (!isOwn) askToPlay(); });
  $("grid").append(tile);
  tiles.set(stream, tile);
  look();
  people();
}

/** What is shown small is asked for small: the others then have more room. */
const SMALL = { height: 170, bits: 250_000 };

function limitPictures() {
  const { connection } = call;
  if (!connection || connection.state === "closed") return;
  for (const [stream, tile] of tiles) {
    if (stream === media.stream || stream === media.screen) continue;
    const isSmall = tile.offsetHeight > 0 && tile.offsetHeight <= SMALL.height;
    for (const { ssrc, track } of connection.receivedTracks(stream)) {
      if (track.kind === "video") call.limit(String(ssrc), isSmall ? SMALL.bits : undefined);
    }
  }
}
setInterval(limitPictures, 1000);

function removeTile(stream) {
  const tile = tiles.get(stream);
  if (!tile) return;
  if (grid.pinned === tile) grid.pin(null);
  tile.querySelector("video").srcObject = null;
  tile.remove();
  tiles.delete(stream);
  people();
}

function people() {
  const others = new Set([...tiles.keys()].filter(stream => stream !== media.stream && stream !== media.screen)
    .map(stream => memberOf(stream.id)));
  $("alone").hidden = others.size > 0 || call.state !== "connected";
  document.body.dataset.others = others.size;
  if (call.state === "connected") {
    say("connected", others.size === 0 ? "Connected – nobody else is sending"
      : `Connected with ${others.size} ${others.size === 1 ? "other" : "others"}`);
  }
}

function say(state, words) {
  const line = $("state");
  line.dataset.state = { connected: "connected", joining: "joining" }[state] ?? "trouble";
  if (line.textContent !== words) line.textContent = words;
}

// Notices.

function notice(id, words, action) {
  dismiss(id);
  const box = document.createElement("div");
  box.className = "notice";
  box.dataset.notice = id;
  const text = document.createElement("p");
  text.textContent = words;
  box.append(text);
  if (action) {
    const button = document.createElement("button");
    button.className = "soft";
    button.textContent = action.label;
    button.addEventListener("click", action.run);
    box.append(button);
  }
  const close = document.createElement("button");
  close.className = "plain";
  close.setAttribute("aria-label", "Dismiss");
  close.append($("icon-close").content.cloneNode(true));
  close.addEventListener("click", () => box.remove());
  box.append(close);
  $("notices").append(box);
}

function dismiss(id) {
  $("notices").querySelector(`[data-notice="${id}"]`)?.remove();
}

function askToPlay() {
  notice("play", "The browser waits for a click before it plays sound.", {
    label: "Play",
    run: () => {
      dismiss("play");
      for (const video of document.querySelectorAll(".tile video")) video.play().catch(() => {});
    },
  });
}

function tellFailures(failed) {
  for (const kind of ["the microphone", "the camera"]) dismiss(kind);
  const [first] = failed;
  if (failed.length === 2 && first.error?.name === failed[1].error?.name) {
    notice(first.what, reasonOf(first.error, "camera and microphone"), { label: "Try again", run: openMedia });
  } else {
    for (const { what, error } of failed) notice(what, reasonOf(error, what), { label: "Try again", run: openMedia });
  }
}

// Our own media.

function closeMedia() {
  for (const kind of ["audio", "video"]) media.close(kind);
}

async function openMedia() {
  const failed = await media.open();
  // Whoever has left while the browser asked wants no light at the camera.
  if (call.state === "left") return closeMedia();
  tellFailures(failed);
  listDevices();
}

function controls() {
  const { sound, picture } = media;
  const isMuted = !sound?.enabled;
  set("mute", { isOff: isMuted, isOn: Boolean(sound) && isMuted, words: !sound ? "No mic" : isMuted ? "Unmute" : "Mute" });
  set("camera", { isOff: !picture, isOn: !picture, words: picture ? "Camera off" : "Camera on" });
  set("share", { isOff: false, isOn: Boolean(media.screen), words: media.screen ? "Stop sharing" : "Share screen" });
  const own = tiles.get(media.stream);
  if (own) {
    own.querySelector(".mutes").hidden = !isMuted;
    own.look();
  }
}

/** What a button says is what it does: one that said that it is pressed as well would say so of its opposite. */
function set(id, { isOff = false, isOn, words }) {
  const button = $(id);
  button.toggleAttribute("data-off", isOff);
  button.toggleAttribute("data-on", isOn);
  button.querySelector("span").textContent = words;
  const { key } = button.dataset;
  if (key) button.title = `${words} (${key.toUpperCase()})`;
}

async function attempt(what, deed) {
  try {
    await deed();
    dismiss(what);
  } catch (error) {
    if (what === "the screen" && error?.name === "NotAllowedError") return;
    notice(what, reasonOf(error, what));
  }
}

const deeds = {
  mute: () => {
    const { sound } = media;
    if (!sound) return attempt("the microphone", () => media.reopen("audio"));
    sound.enabled = !sound.enabled;
    return controls();
  },
  camera: () => (media.picture ? media.close("video") : attempt("the camera", () => media.reopen("video"))),
  share: () => (media.screen ? media.unshare() : attempt("the screen", () => media.share())),
  "open-keypad": () => toggle("keypad"),
  "open-figures": () => toggle("figures"),
  "open-devices": async () => {
    await listDevices();
    $("devices").showModal();
  },
  "demo-toggle": () => demo(),
  demo: () => demo(),
  leave: () => {
    media.unshare();
    call.leave();
    closeMedia();
    for (const panel of ["keypad", "figures"]) toggle(panel, false);
    for (const button of document.querySelectorAll(".controls button")) button.disabled = true;
    notice("left", "You have left the room.", { label: "Join again", run: () => location.reload() });
    $("notices").querySelector('[data-notice="left"] .soft').focus();
  },
  copy: async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      $("copy").querySelector("span").textContent = "Copied";
      setTimeout(() => { $("copy").querySelector("span").textContent = "Copy link"; }, 1500);
    } catch {
      notice("copy", `The browser does not let this page copy. The link is ${location.href}`);
    }
  },
};
for (const [id, deed] of Object.entries(deeds)) $(id).addEventListener("click", deed);

function toggle(id, isOpen = $(id).hidden) {
  for (const panel of ["keypad", "figures"]) {
    const shows = panel === id && isOpen;
    $(panel).hidden = !shows;
    $(`open-${panel}`).setAttribute("aria-expanded", shows);
  }
  figures.show(!$("figures").hidden);
  if (isOpen) $(id).querySelector("[data-close]").focus();
  else $(`open-${id}`).focus();
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => toggle(button.dataset.close, false));
}

async function demo() {
  const isThere = $("demo-toggle").hasAttribute("data-on");
  $("demo").disabled = $("demo-toggle").disabled = true;
  try {
    const response = await fetch(`/r/${name}/demo${query}`, { method: isThere ? "DELETE" : "POST" });
    // It may have been added, or have left, by somebody else's doing.
    if (response.ok || response.status === 409 || response.status === 404) {
      set("demo-toggle", { isOn: !isThere, words: isThere ? "Demo peer" : "End demo" });
      dismiss("demo");
    } else {
      const { error } = await response.json();
      notice("demo", `No demo peer: ${error.message}.`);
    }
  } catch {
    notice("demo", "No demo peer: the server does not answer.");
  }
  $("demo").disabled = $("demo-toggle").disabled = false;
}

// Devices.

async function listDevices() {
  const devices = await navigator.mediaDevices?.enumerateDevices() ?? [];
  const fill = (id, kind, current, fallback) => {
    const select = $(id);
    const found = devices.filter(device => device.kind === kind && device.deviceId);
    const options = found.map((device, n) => new Option(device.label || `${fallback} ${n + 1}`, device.deviceId));
    select.replaceChildren(...(options.length ? options : [new Option(`No ${fallback.toLowerCase()}`, "")]));
    select.disabled = !options.length;
    if (found.some(device => device.deviceId === current)) select.value = current;
  };
  fill("microphones", "audioinput", media.sound?.getSettings().deviceId, "Microphone");
  fill("cameras", "videoinput", media.picture?.getSettings().deviceId, "Camera");
  fill("speakers", "audiooutput", remembered("speaker"), "Speaker");
  const canChoose = "setSinkId" in HTMLMediaElement.prototype;
  $("speaker-row").hidden = !canChoose;
}
$("microphones").addEventListener("change", ({ target }) => {
  media.choose("audio", target.value);
  attempt("the microphone", () => media.reopen("audio"));
});
$("cameras").addEventListener("change", ({ target }) => {
  media.choose("video", target.value);
  attempt("the camera", () => media.reopen("video"));
});
$("speakers").addEventListener("change", ({ target }) => {
  remember("speaker", target.value);
  for (const [stream, tile] of tiles) {
    if (stream !== media.stream) tile.querySelector("video").setSinkId?.(target.value).catch(() => {});
  }
});
navigator.mediaDevices?.addEventListener("devicechange", listDevices);

// Keyboard: the letters that the controls name, and the keypad's keys while it is open.

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("devices").open) return;
  if (event.target instanceof HTMLSelectElement || event.target instanceof HTMLInputElement) return;
  if (!$("keypad").hidden) {
    if (event.key === "Escape") return toggle("keypad", false);
    if (!event.repeat && keypad.typed(event.key, true)) return;
  }
  if (event.key === "Escape" && !$("figures").hidden) return toggle("figures", false);
  const button = document.querySelector(`.controls [data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (button && !button.hidden && !event.repeat) button.click();
});
addEventListener("keyup", event => {
  if (!$("keypad").hidden) keypad.typed(event.key, false);
});
for (const button of document.querySelectorAll(".controls [data-key]")) {
  button.title = `${button.querySelector("span").textContent} (${button.dataset.key.toUpperCase()})`;
  button.setAttribute("aria-keyshortcuts", button.dataset.key);
}

// The call.

call.addEventListener("state", ({ state, words }) => {
  // What there is to say about trouble stands in a notice.
  say(state, state === "trouble" ? "Not connected" : words);
  document.body.dataset.state = state;
  if (state === "trouble" || state === "refused") notice("call", words);
  else if (state !== "joining") dismiss("call");
  people();
});
call.addEventListener("stream", ({ stream }) => {
  addTile(stream, {});
  if (!document.body.dataset.seen) {
    const video = tiles.get(stream).querySelector("video");
    video.requestVideoFrameCallback?.(() => { document.body.dataset.seen ||= Math.round(performance.now() - begun); });
  }
});
call.addEventListener("streamgone", ({ stream }) => removeTile(stream));
call.addEventListener("streamchanged", () => { for (const tile of tiles.values()) tile.look(); });
call.addEventListener("key", ({ digit, member }) => keypad.heard(nameOf(member), digit));
call.addEventListener("complaint", ({ message }) => notice("complaint", message));
call.addEventListener("sending", () => keypad.use(call.tones));

media.addEventListener("change", () => {
  call.update();
  const { screen } = media;
  for (const stream of [...tiles.keys()]) if (stream.isScreen && stream !== screen) removeTile(stream);
  if (screen && !tiles.has(screen)) {
    screen.isScreen = true;
    addTile(screen, { label: "Your screen", isOwn: true, isScreen: true });
  }
  controls();
});
media.addEventListener("lost", ({ kind }) => notice("lost", kind === "audio" ? "The microphone is gone." : "The camera is gone."));

if (!getRTCCapabilities().receiveTones) $("heard-keys").textContent = "This browser cannot hear keys.";
// Telephones share no screen.
$("share").hidden = !navigator.mediaDevices?.getDisplayMedia;
addTile(media.stream, { label: "You", isOwn: true });
controls();
// Nobody waits for a question of the browser: who only watches is in the room already.
call.join();
openMedia();
