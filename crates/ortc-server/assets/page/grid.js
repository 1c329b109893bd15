// How tiles share the window: as large as they can be, all of one size, at any size of it; one of
// them may be enlarged, and then the others stand in a strip.

const GAP = 12;
const ASPECT = 16 / 9;
const LEAST = 0.75;

/** The largest tiles of which `count` fit: their size, and how many stand in a row. */
export function fit(count, width, height, gap = GAP) {
  let best = { width: 0, height: 0, columns: 1 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const room = { width: (width - gap * (columns - 1)) / columns, height: (height - gap * (rows - 1)) / rows };
    if (room.width <= 0 || room.height <= 0) continue;
    // A tile may be a little wider or higher than a picture is: that uses the window better.
    let [w, h] = [room.width, room.height];
    if (w / h > ASPECT) w = h * ASPECT;
    else if (w / h < LEAST) h = w / LEAST;
    const visible = Math.min(w, h * ASPECT) * Math.min(h, w / ASPECT);
    const known = Math.min(best.width, best.height * ASPECT) * Math.min(best.height, best.width / ASPECT);
    if (visible > known + 1) best = { width: w, height: h, columns };
  }
  return best;
}

export class Grid {
  #list;
  #pinned = null;

  constructor(list) {
    this.#list = list;
    new ResizeObserver(() => this.arrange()).observe(list);
    new MutationObserver(() => this.arrange()).observe(list, { childList: true });
  }

  /** Enlarges a tile, or none. */
  pin(tile) {
    this.#pinned = tile;
    for (const other of this.#list.children) {
      const isPinned = other === tile;
      other.querySelector(".pin").setAttribute("aria-pressed", isPinned);
      other.style.order = isPinned ? -1 : "";
    }
    this.arrange();
  }

  get pinned() { return this.#pinned; }

  arrange() {
    const tiles = [...this.#list.children];
    const { clientWidth: width, clientHeight: height } = this.#list;
    if (!tiles.length || !width || !height) return;
    const size = (tile, { width, height }) => {
      tile.style.setProperty("--width", `${Math.floor(width)}px`);
      tile.style.setProperty("--height", `${Math.floor(height)}px`);
    };
    if (this.#pinned && !tiles.includes(this.#pinned)) this.#pinned = null;
    const others = tiles.filter(tile => tile !== this.#pinned);
    if (!this.#pinned || !others.length) {
      const best = fit(tiles.length, width, height);
      for (const tile of tiles) size(tile, best);
      return;
    }
    const strip = Math.max(90, Math.min(height * 0.2, 160));
    const main = fit(1, width, height - strip - GAP);
    size(this.#pinned, { width: Math.max(main.width, width - 2), height: main.height });
    const each = Math.min(strip * ASPECT, (width - GAP * (others.length - 1)) / others.length);
    for (const tile of others) size(tile, { width: each, height: strip });
  }
}
