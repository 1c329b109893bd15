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

/** Fires an event with these attributes. */
export function fire(target, type, attributes = {}) {
  target.dispatchEvent(Object.assign(new Event(type), attributes));
}
