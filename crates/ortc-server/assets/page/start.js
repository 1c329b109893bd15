// The start page: a new room with a name that nobody guesses, or one whose name is known.

// The commands are for whoever reads them here: by the name by which the server is reached from there, and
// with the invitation that this link holds.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
for (const [kind, text] of Object.entries({
  url: location.origin,
  socket: location.origin.replace(/^http/, "ws"),
  invitation: token ? location.hash : "",
  token: token ? `?token=${encodeURIComponent(token)}` : "",
})) {
  for (const place of document.getElementsByClassName(kind)) place.textContent = text;
}

const LETTERS = "abcdefghjkmnpqrstuvwxyz23456789";

function newName() {
  const random = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(random, byte => LETTERS[byte % LETTERS.length]).join("").replace(/(.{4})(?=.)/g, "$1-");
}

const go = name => location.assign(`/r/${name}${location.hash}`);
document.getElementById("new").addEventListener("click", () => go(newName()));
const input = document.getElementById("name");
document.getElementById("join").addEventListener("click", () => {
  if (input.value && input.checkValidity()) go(input.value);
  else input.reportValidity();
});
input.addEventListener("keydown", event => {
  if (event.key === "Enter") document.getElementById("join").click();
});
// A link of the form /#NAME is a room, too.
if (/^#[A-Za-z0-9._~-]{1,64}$/.test(location.hash)) location.replace(`/r/${location.hash.slice(1)}`);
