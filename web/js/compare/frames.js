// The frames of one clip as images, loaded a few at a time.

const AT_ONCE = 4;

export class Frames {
  /** urls: one per frame.   onLoad(i), onError(i): called when frame i has arrived, or cannot. */
  constructor(urls, onLoad, onError) {
    this.urls = urls;
    this.images = new Array(urls.length);
    this.ready = new Set();
    this.onLoad = onLoad;
    this.onError = onError;
    this.next = 0;
  }

  /** The image element of frame i; starts loading it if need be. */
  at(i) {
    if (!this.images[i]) {
      const image = new Image();
      image.decoding = "sync"; // else a frame flashes when it is first shown
      image.draggable = false;
      image.alt = "";
      image.onload = () => { this.ready.add(i); this.onLoad(i); };
      image.onerror = () => this.onError(i);
      image.src = this.urls[i];
      this.images[i] = image;
    }
    return this.images[i];
  }

  /** Loads all that is missing, in order. */
  loadAll() {
    for (let lane = 0; lane < AT_ONCE; lane++) this.#loadNext();
  }

  #loadNext() {
    while (this.next < this.urls.length && this.images[this.next]) this.next++;
    if (this.next >= this.urls.length) return;
    const image = this.at(this.next++);
    image.addEventListener("load", () => this.#loadNext());
    image.addEventListener("error", () => this.#loadNext());
  }
}
