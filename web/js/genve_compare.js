// The view of the Compare node: a DOM widget, so that it works on the canvas and in Vue nodes alike.
// The modules in compare/ are .js and do nothing by themselves: the host loads every .js, and it lets browsers keep
// .mjs files over an update of the pack.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { CompareView } from "./compare/view.js";

const NODE = "GenVECompare";
const SMALLEST = 240; // px, height of the view
const FIRST_SIZE = [400, 520]; // px, of a new node

const style = document.createElement("link");
style.rel = "stylesheet";
style.href = new URL("./compare/view.css", import.meta.url).href;
document.head.append(style);

const locale = () => app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";

const urlOf = ({ filename, subfolder, type }) =>
  api.apiURL(`/view?${new URLSearchParams({ filename, subfolder: subfolder ?? "", type })}`);

// What the node showed last outlives a reload of the page, but not the browser's tab: the files are temporary.
const keyOf = (node) => `genve.compare/${(node.graph ?? app.graph)?.id}/${node.id}`;

function remember(node, output) {
  try {
    sessionStorage.setItem(keyOf(node), JSON.stringify(output));
  } catch {
    sessionStorage.removeItem(keyOf(node)); // no room: after a reload the view is empty
  }
}

function show(node, output) {
  const info = output?.genve_compare?.[0];
  if (!info || !output.a_images?.length || !output.b_images?.length) return false;
  node.genveCompare.show({
    ...info,
    urls: { before: output.a_images.map(urlOf), after: output.b_images.map(urlOf) },
    reference: output.reference_images?.length ? urlOf(output.reference_images[0]) : null,
  });
  return true;
}

// On the canvas a DOM widget covers what is under it: hand back what it does not use. Vue nodes do so by themselves.
function passOn(element) {
  const onCanvas = (handle) => (event) => {
    if (!window.LiteGraph?.vueNodesMode && !event.defaultPrevented) handle(event);
  };
  element.addEventListener("wheel", onCanvas((e) => app.canvas.processMouseWheel(e)));
  element.addEventListener("pointerdown", onCanvas((e) => e.button === 1 && app.canvas.processMouseDown(e)));
  element.addEventListener("pointermove", onCanvas((e) => e.buttons === 4 && app.canvas.processMouseMove(e)));
  element.addEventListener("pointerup", onCanvas((e) => e.button === 1 && app.canvas.processMouseUp(e)));
}

function addView(node) {
  const view = new CompareView(locale());
  passOn(view.element);
  const widget = node.addDOMWidget("genve_compare_view", "genve_compare", view.element, {
    serialize: false, hideOnZoom: false, getMinHeight: () => SMALLEST,
  });
  widget.serialize = false; // no entry in the saved widgets_values either
  node.genveCompare = view;
  node.setSize?.(FIRST_SIZE.map((side, axis) => Math.max(side, node.size[axis])));
}

app.registerExtension({
  name: "GenVE.Compare",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    const { onNodeCreated, onExecuted, onRemoved } = nodeType.prototype;
    Object.assign(nodeType.prototype, {
      onNodeCreated() {
        onNodeCreated?.apply(this, arguments);
        addView(this);
      },
      onExecuted(output) {
        onExecuted?.apply(this, arguments);
        if (show(this, output)) remember(this, output);
      },
      onRemoved() {
        onRemoved?.apply(this, arguments);
        this.genveCompare.stop();
      },
    });
  },

  loadedGraphNode(node) {
    if (node.genveCompare) show(node, JSON.parse(sessionStorage.getItem(keyOf(node)) ?? "null"));
  },

  setup() {
    app.ui?.settings?.addEventListener?.("Comfy.Locale.change", (event) => {
      CompareView.setLocale(event.detail?.value ?? locale());
    });
  },
});
