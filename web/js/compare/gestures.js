// Pointer, wheel and pinch on the stage of the Compare view: they move the split, or the zoomed picture.

const NEAR = 14; // px on the screen, to the split
const LARGEST = 16; // zoom
const WHEEL_STEP = 1.2;

export class Gestures {
  /** view: has split (0..1), zoom {scale, x, y} in px of the unscaled stage, and update(). */
  constructor(stage, view) {
    this.stage = stage;
    this.view = view;
    this.pointers = new Map(); // id -> last position
    this.drags = null; // "split" or "picture"
    for (const [type, handle] of Object.entries({
      pointerdown: this.#down, pointermove: this.#move, pointerup: this.#up, pointercancel: this.#up,
      dblclick: this.#reset, wheel: this.#wheel,
    })) stage.addEventListener(type, handle.bind(this), { passive: false });
  }

  #down(event) {
    if (event.button !== 0) return; // the others belong to the graph
    event.stopPropagation();
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.#position(event));
    if (this.pointers.size > 1) {
      this.drags = "picture";
      return;
    }
    const { box } = this.#measure();
    const distance = Math.abs(event.clientX - box.left - this.view.split * box.width);
    this.drags = this.view.zoom.scale === 1 || distance < NEAR ? "split" : "picture";
    if (this.drags === "split") this.#moveSplit(event);
  }

  #move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    event.stopPropagation();
    if (this.drags === "split") {
      this.#moveSplit(event);
      return;
    }
    const before = this.#spread();
    const now = this.#position(event);
    this.pointers.set(event.pointerId, now);
    const after = this.#spread();
    const share = 1 / this.pointers.size; // two fingers together move it once
    this.#zoom(before ? after / before : 1, now, (now.x - last.x) * share, (now.y - last.y) * share);
  }

  #up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    event.stopPropagation();
    if (!this.pointers.size) this.drags = null;
  }

  #reset(event) {
    event.stopPropagation();
    this.view.zoom = { scale: 1, x: 0, y: 0 };
    this.view.update();
  }

  #wheel(event) {
    const graphs = event.ctrlKey || event.metaKey || !this.view.focused;
    const idle = event.deltaY > 0 && this.view.zoom.scale === 1; // nothing left to zoom out of: the graph's turn
    if (graphs || idle || !this.view.loaded) return;
    event.preventDefault();
    event.stopPropagation();
    this.#zoom(event.deltaY < 0 ? WHEEL_STEP : 1 / WHEEL_STEP, this.#position(event), 0, 0);
  }

  #moveSplit(event) {
    const { box } = this.#measure();
    this.view.split = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    this.view.update();
  }

  /** Scale about a point of the stage, then move by (dx, dy); the picture always covers the stage. */
  #zoom(factor, at, dx, dy) {
    const { scale, x, y } = this.view.zoom;
    const larger = Math.min(LARGEST, Math.max(1, scale * factor));
    const k = larger / scale;
    const within = (value, side) => Math.min(0, Math.max(side * (1 - larger), value));
    this.view.zoom = {
      scale: larger,
      x: within(at.x - (at.x - x) * k + dx, this.stage.clientWidth),
      y: within(at.y - (at.y - y) * k + dy, this.stage.clientHeight),
    };
    this.view.update();
  }

  /** Distance of two pointers, or 0. */
  #spread() {
    const [a, b] = this.pointers.values();
    return b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  }

  #measure() {
    const box = this.stage.getBoundingClientRect();
    return { box, graphScale: box.width / this.stage.clientWidth || 1 };
  }

  /** Of an event, in px of the stage before the graph's own zoom. */
  #position(event) {
    const { box, graphScale } = this.#measure();
    return { x: (event.clientX - box.left) / graphScale, y: (event.clientY - box.top) / graphScale };
  }
}
