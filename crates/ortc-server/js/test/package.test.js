// What an installed copy of the package has is all that it needs.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const read = path => readFileSync(join(ROOT, path), "utf8");

test("nothing that is packed imports what is not", () => {
  const packed = JSON.parse(read("package.json")).files.flatMap(name =>
    (name.endsWith("/") ? readdirSync(join(ROOT, name)).map(file => name + file) : [name]));
  const imported = packed.filter(file => /\.(js|ts)$/.test(file)).flatMap(file =>
    [...read(file).matchAll(/^(?:import|export|\}) .*?"(\.[^"]+)"|new URL\("(\.[^"]+)"/gm)]
      .map(([, module, worker]) => normalize(join(dirname(file), module ?? worker))));
  assert.ok(imported.includes("signalled.js") && imported.includes("ortc/tone-worker.js"), `${imported}`);
  // Types say the name of the module that they are of, which here has none.
  const isPacked = path => packed.includes(path) || packed.includes(path.replace(/\.js$/, ".d.ts"));
  assert.deepEqual(imported.filter(path => !isPacked(path)), []);
});
