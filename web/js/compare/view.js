// The Compare view: what is shown, and the controls below it. It knows nothing of ComfyUI.
import { build, setIcon } from "./elements.js";
import { Frames } from "./frames.js";
import { Gestures } from "./gestures.js";
import { wordsIn } from "./words.js";

const views = new Set();

export class CompareView {
  constructor(locale) {
    this.words = wordsIn(locale);
    this.parts = build();
    this.split = 0.5;
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.frame = 0; // index into the frames shown, not into the clip
    this.showsReference = true;
    this.data = null;
    this.playing = null; // requestAnimationFrame's handle
    new Gestures(this.parts.stage, this);
    this.#listen();
    this.update();
    views.add(this);
  }

  static setLocale(locale) {
    for (const view of views) {
      view.words = wordsIn(locale);
      view.update();
    }
  }

  get element() { return this.parts.root; }
  get focused() { return this.parts.root.contains(document.activeElement); }
  get loaded() { return this.data !== null && !this.missing; }

  /**
   * data: {urls: {before, after}: one per frame shown; frames: their indices in the clip; of: frames of the clip;
   * before, after: [w, h]; reference: url or null; key_frame: index or -1; frames_per_second}.
   */
  show(data) {
    this.pause();
    this.data = data;
    this.missing = false;
    this.frame = Math.min(this.frame, data.frames.length - 1);
    const arrived = (i) => i === this.frame && this.#draw();
    const failed = () => { this.missing = true; this.update(); };
    this.before = new Frames(data.urls.before, arrived, failed);
    this.after = new Frames(data.urls.after, arrived, failed);
    if (data.reference) this.parts.insetPicture.src = data.reference;
    this.#draw();
    this.update();
    this.before.loadAll();
    this.after.loadAll();
  }

  stop() {
    this.pause();
    views.delete(this);
  }

  goTo(frame) {
    const last = (this.data?.frames.length ?? 1) - 1;
    this.frame = Math.min(last, Math.max(0, frame));
    this.#draw();
    this.update();
  }

  play() {
    if (!this.loaded || this.data.frames.length < 2 || this.playing !== null) return;
    // frames left out of a long clip keep its speed
    const step = (1000 / this.data.frames_per_second) * (this.data.frames[1] - this.data.frames[0]);
    let due = performance.now() + step;
    const tick = (now) => {
      if (!this.element.isConnected) {
        this.pause();
        return;
      }
      this.playing = requestAnimationFrame(tick);
      if (now < due) return;
      const next = (this.frame + 1) % this.data.frames.length;
      if (!this.#arrived(next)) return; // wait rather than show a gap
      due = Math.max(due + step, now);
      this.goTo(next);
    };
    this.playing = requestAnimationFrame(tick);
    this.update();
  }

  pause() {
    if (this.playing === null) return;
    cancelAnimationFrame(this.playing);
    this.playing = null;
    this.update();
  }

  #arrived(i) { return this.before.ready.has(i) && this.after.ready.has(i); }

  /** Both pictures change together, and only when both are there. */
  #draw() {
    if (!this.data) return;
    const pair = [this.before.at(this.frame), this.after.at(this.frame)];
    if (!this.#arrived(this.frame)) return;
    this.parts.before.replaceChildren(pair[0]);
    this.parts.after.replaceChildren(pair[1]);
  }

  update() {
    const { parts, words, data, loaded } = this;
    const { scale, x, y } = this.zoom;
    const share = `${(this.split * 100).toFixed(2)}%`;
    parts.afterLayer.style.clipPath = `inset(0 0 0 ${share})`;
    parts.split.style.left = share;
    for (const picture of [parts.before, parts.after]) {
      picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
      picture.classList.toggle("genve-pixels", scale >= 4);
    }
    parts.root.classList.toggle("genve-zoomed", scale > 1);
    parts.root.classList.toggle("genve-empty", !loaded);
    parts.root.setAttribute("aria-label", words.view);
    parts.note.textContent = data ? words.gone : words.empty;
    parts.stage.title = loaded ? `${words.split}\n${words.zoom}` : "";
    parts.beforeLabel.textContent = this.#label("before");
    parts.afterLabel.textContent = this.#label("after");
    this.#updateBar();
    this.#updateReference();
  }

  #label(side) {
    return this.data ? `${this.words[side]} ${this.data[side].join("×")}` : this.words[side];
  }

  #updateBar() {
    const { parts, words, data, loaded } = this;
    const frames = data?.frames ?? [0];
    parts.bar.hidden = !loaded || (frames.length < 2 && !data.reference);
    for (const part of [parts.play, parts.track, parts.position]) part.hidden = frames.length < 2;
    const plays = this.playing !== null;
    if (parts.play.dataset.plays !== String(plays)) setIcon(parts.play, plays ? "pause" : "play");
    parts.play.dataset.plays = plays;
    parts.play.title = plays ? words.pause : words.play;
    parts.play.setAttribute("aria-label", parts.play.title);
    parts.scrubber.max = frames.length - 1;
    parts.scrubber.value = this.frame;
    parts.scrubber.title = words.frame;
    parts.scrubber.setAttribute("aria-label", words.frame);
    parts.position.textContent = data ? `${frames[this.frame]} / ${data.of - 1}` : "";
    const key = data?.key_frame ?? -1;
    parts.keyMark.hidden = key < 0;
    parts.keyMark.style.setProperty("--at", key / Math.max(1, frames.at(-1)));
    parts.keyMark.title = words.keyFrame(key);
  }

  #updateReference() {
    const { parts, words, data, loaded } = this;
    const given = Boolean(loaded && data.reference);
    parts.toggle.hidden = !given;
    parts.toggle.title = words.showReference;
    parts.toggle.setAttribute("aria-label", words.showReference);
    parts.toggle.setAttribute("aria-pressed", this.showsReference);
    parts.inset.hidden = !given || !this.showsReference;
    const known = given && data.key_frame >= 0;
    parts.inset.classList.toggle("genve-here", known && data.frames[this.frame] === data.key_frame);
    parts.insetLabel.textContent = known ? `${words.reference} · ${words.depicts(data.key_frame)}` : words.reference;
  }

  toggleReference() {
    this.showsReference = !this.showsReference;
    this.update();
  }

  #listen() {
    const { parts } = this;
    parts.play.addEventListener("click", () => (this.playing === null ? this.play() : this.pause()));
    parts.toggle.addEventListener("click", () => this.toggleReference());
    parts.scrubber.addEventListener("input", () => { this.pause(); this.goTo(Number(parts.scrubber.value)); });
    parts.stage.addEventListener("pointerdown", (e) => e.button === 0 && parts.root.focus({ preventScroll: true }));
    // Vue nodes would drag the node, the canvas would select
    parts.bar.addEventListener("pointerdown", (e) => e.button === 0 && e.stopPropagation());
    parts.root.addEventListener("keydown", (e) => this.#key(e));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.loaded) return;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 }[event.key];
    const clip = this.data.frames.length > 1;
    if (moves && event.shiftKey) {
      this.split = Math.min(1, Math.max(0, this.split + moves * 0.02));
      this.update();
    } else if (moves && clip) {
      this.pause();
      this.goTo(this.frame + moves);
    } else if (event.key === "Home" || event.key === "End") {
      this.goTo(event.key === "Home" ? 0 : Infinity);
    } else if (event.key === " " && clip) {
      if (this.playing === null) this.play();
      else this.pause();
    } else if (event.key.toLowerCase() === "r" && this.data.reference) {
      this.toggleReference();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation(); // the front end has shortcuts on some of these
  }
}
