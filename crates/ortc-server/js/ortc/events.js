// Event handler attributes, as HTML has them: one settable handler for each event, called in the
// order in which it was first set among the listeners.

/** Defines `on<type>` on a target, or on the prototype of targets. */
export function handlers(target, types) {
  for (const type of types) {
    const slots = new WeakMap();
    Object.defineProperty(target, `on${type}`, {
      configurable: true,
      enumerable: true,
      get() { return slots.get(this)?.handler ?? null; },
      set(handler) {
        let slot = slots.get(this);
        if (!slot) {
          slot = { handler: null };
          slots.set(this, slot);
          this.addEventListener(type, event => slot.handler?.call(this, event));
        }
        slot.handler = typeof handler === "function" ? handler : null;
      },
    });
  }
}

const insides = new WeakMap();

/**
 * Lets a browser's own object have events of ours: Firefox hands those that a page dispatches at
 * a MediaStreamTrack to no listener.
 */
export function ownEvents(target, types) {
  const inside = new EventTarget();
  insides.set(target, inside);
  for (const name of ["addEventListener", "removeEventListener"]) {
    const native = target[name];
    Object.defineProperty(target, name, {
      configurable: true,
      writable: true,
      value(type, ...rest) {
        return types.includes(type) ? inside[name](type, ...rest) : native.call(target, type, ...rest);
      },
    });
  }
}

/** Fires an event with these attributes. */
export function fire(target, type, attributes = {}) {
  const event = Object.assign(new Event(type), attributes);
  const inside = insides.get(target);
  if (inside) Object.defineProperty(event, "target", { value: target });
  (inside ?? target).dispatchEvent(event);
}
