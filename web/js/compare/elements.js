// The elements of the Compare view, without behaviour.

function make(tag, name, ...children) {
  const element = document.createElement(tag);
  element.className = `genve-${name}`;
  element.append(...children);
  return element;
}

// Drawn here: icon fonts differ between the front ends.
const ICONS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  reference: "M1.5 2.5h13v11h-13zM3 4v8h10V4zm1 7 2.5-4 2 2.8L10 8l2 3z",
};

export function setIcon(button, name) {
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  icon.setAttribute("viewBox", "0 0 16 16");
  icon.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  path.setAttribute("fill-rule", "evenodd");
  icon.append(path);
  button.replaceChildren(icon);
}

function button(name, icon) {
  const element = make("button", name);
  element.type = "button";
  setIcon(element, icon);
  return element;
}

export function build() {
  const parts = {
    before: make("div", "picture"),
    after: make("div", "picture"),
    grip: make("div", "grip"),
    beforeLabel: make("span", "label genve-left"),
    afterLabel: make("span", "label genve-right"),
    inset: make("figure", "inset"),
    insetPicture: make("img", "inset-picture"),
    insetLabel: make("figcaption", "inset-label"),
    note: make("div", "note"),
    play: button("play", "play"),
    scrubber: make("input", "scrubber"),
    keyMark: make("i", "key-mark"),
    position: make("output", "position"),
    toggle: button("toggle", "reference"),
  };
  parts.inset.append(parts.insetPicture, parts.insetLabel);
  parts.afterLayer = make("div", "layer", parts.after);
  parts.split = make("div", "split", parts.grip);
  parts.stage = make("div", "stage", make("div", "layer", parts.before), parts.afterLayer, parts.split,
    parts.beforeLabel, parts.afterLabel, parts.inset, parts.note);
  parts.scrubber.type = "range";
  parts.scrubber.min = 0;
  parts.track = make("div", "track", parts.keyMark, parts.scrubber);
  parts.bar = make("div", "bar", parts.play, parts.track, parts.position, parts.toggle);
  parts.root = make("div", "compare", parts.stage, parts.bar);
  parts.root.tabIndex = 0;
  parts.root.setAttribute("role", "group");
  parts.root.dataset.captureWheel = "true"; // Vue nodes: the wheel is ours while we have the focus
  return parts;
}
