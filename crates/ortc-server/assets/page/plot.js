// Small live plots on a canvas.

/** The last minute, a value each second. */
const KEPT = 60;

/** A line of values, the newest last. */
export class Series {
  values = [];
  add(value) {
    this.values.push(value);
    if (this.values.length > KEPT) this.values.shift();
  }
  get last() { return this.values.at(-1) ?? null; }
}

/** Draws lines over each other; each has its own scale, from 0 to its greatest value or `least`. */
export function draw(canvas, lines) {
  const scale = globalThis.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  const colour = name => style.getPropertyValue(name).trim() || style.color;
  if (height > 60) {
    context.strokeStyle = colour("--line");
    context.lineWidth = 1;
    for (const part of [0, 0.5, 1]) {
      const y = Math.round(part * (height - 2)) + 0.5;
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
    }
  }
  for (const { series, name, least, isFilled } of lines) {
    const top = Math.max(least, ...series.values.filter(value => value !== null)) * 1.1;
    const at = n => [width * (1 - (series.values.length - 1 - n) / (KEPT - 1)), (height - 3) * (1 - (series.values[n] ?? 0) / top) + 1.5];
    context.beginPath();
    series.values.forEach((value, n) => {
      if (value === null) return;
      const [x, y] = at(n);
      if (n === 0 || series.values[n - 1] === null) context.moveTo(x, y);
      else context.lineTo(x, y);
    });
    context.strokeStyle = colour(name);
    context.lineWidth = height > 60 ? 1.8 : 1.4;
    context.lineJoin = "round";
    context.stroke();
    if (isFilled && series.values.length > 1) {
      context.lineTo(width, height);
      context.lineTo(at(0)[0], height);
      context.globalAlpha = 0.14;
      context.fillStyle = colour(name);
      context.fill();
      context.globalAlpha = 1;
    }
  }
}

/** `1.2 Mbit/s`, `340 kbit/s`. */
export function bitRate(bits) {
  if (bits === null || !Number.isFinite(bits)) return "–";
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;
}

export const percent = share => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);
