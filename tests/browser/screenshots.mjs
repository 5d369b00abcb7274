// The pictures that are of the front end, taken there after a run (before it, where a checkpoint is needed):
//   docs/screens/<workflow>.png     the whole graph, in lower case and with underscores
//   workflows/<workflow>.jpg        the template browser's: a detail above the graph
//   web/docs/pictures/<node>.jpg    of help pages whose node makes no picture itself
//
//   node tests/browser/screenshots.mjs [--front-end newest-vue] [--workflow name,...] [--node id,...] [--input folder]
//                                      [--port 8320]
//
// --input: files for the loaders; without it the sample beside the workflows.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { allWorkflows, DOCS, frontEnds, HERE, Host, PACK, ROOT, tools, workflowFile, WORKFLOWS } from "./host.mjs";
import { bounds, fit, FREE, launch, load, open, queue } from "./page.mjs";

const LARGEST = [1800, 1200]; // px of a picture
const SCREEN = 250_000; // bytes
const SIDE = 480; // px of a template's picture
const WIDEST = 900; // px of a help page's picture
const DETAIL = { // whose picture, or face, a template's picture shows above the graph, where it is not the comparer's view
  "Noise sweep and pick": "GenVENoiseSweep",
  "The full paper graph": "GenVEAttentionPreview",
  "Make the reference with any checkpoint": "GenVESemanticAlignment",
};
const CHAINS = { // neighbours that a help page shows its node between
  GenVESemanticAlignment: ["CheckpointLoaderSimple", "GenVESemanticAlignment", "KSampler"],
  GenVESemanticAlignmentSampler: ["KSamplerSelect", "GenVESemanticAlignmentSampler", "SamplerCustom"],
};

const { values: options } = parseArgs({ options: {
  "front-end": { type: "string", default: tools.newest ? "newest-vue" : "bundled" },
  workflow: { type: "string" },
  node: { type: "string" }, // of CHAINS; with --workflow or --node only what they name, else everything
  input: { type: "string", default: WORKFLOWS },
  port: { type: "string", default: "8320" },
} });

const work = fs.mkdtempSync(path.join(os.tmpdir(), "genve-pictures-"));
const shrink = (...words) => execFileSync(tools.python, [path.join(HERE, "shrink.py"), ...words.map(String)]);

/** The graph, or one kind of node, as large as it is and at most LARGEST; a PNG. */
async function photograph(page, file, only = null, zoom = 1) {
  const [left, top, right, bottom] = await bounds(page, only);
  const scale = Math.min(zoom, LARGEST[0] / (right - left), LARGEST[1] / (bottom - top));
  const size = [(right - left) * scale, (bottom - top) * scale].map(Math.ceil);
  await page.setViewportSize({ width: size[0] + FREE.left + FREE.right, height: size[1] + FREE.top + FREE.bottom });
  await page.waitForTimeout(500);
  await fit(page, only);
  await page.mouse.move(2, 2); // no tooltip
  await page.waitForTimeout(2500); // "job queued" goes, players show their first frame
  await page.screenshot({ path: file, clip: { x: FREE.left, y: FREE.top, width: size[0], height: size[1] } });
}

function middleFrame(page) {
  return page.evaluate(() => {
    for (const { genveCompare: view } of window.app.graph._nodes) {
      if (view?.data) view.goTo(Math.floor(view.data.frames.length / 4));
    }
  });
}

/** The picture that a node has made, as it is; null if it has made none. */
async function pictureOf(page, type) {
  const address = await page.evaluate((type) => {
    const node = window.app.graph._nodes.find((one) => one.type === type);
    const [file] = window.app.nodeOutputs[node.id]?.images ?? [];
    return file && new URL(window.app.api.apiURL(`/view?${new URLSearchParams(file)}`), location.href).href;
  }, type);
  return address ? (await page.request.get(address)).body() : null;
}

async function ofWorkflow(page, workflow) {
  await load(page, workflow);
  if (!workflow.graph.nodes.some(({ type }) => type === "CheckpointLoaderSimple")) await queue(page);
  await middleFrame(page);
  const screen = path.join(ROOT, "docs", "screens", `${workflow.name.toLowerCase().replaceAll(" ", "_")}.png`);
  await photograph(page, screen);
  const detail = path.join(work, "detail.png");
  const type = DETAIL[workflow.name] ?? "GenVECompare";
  const made = await pictureOf(page, type);
  if (made) fs.writeFileSync(detail, made);
  else await photograph(page, detail, type, 1.2);
  if (workflow.name === "Enhance a clip") shrink("jpg", detail, path.join(DOCS, "pictures", "GenVECompare.jpg"), 620);
  if (type === "GenVECompare") await page.locator(".genve-stage").first().screenshot({ path: detail });
  const template = path.join(WORKFLOWS, `${workflow.name}.jpg`);
  shrink("square", detail, screen, template, SIDE);
  shrink("png", screen, SCREEN);
  console.log([screen, template].map((file) => `${path.relative(ROOT, file)}: ${Math.round(fs.statSync(file).size / 1000)} kB`).join("\n"));
}

/** Nodes in a row, each wired to the next by the first type that fits. */
async function ofChain(page, type) {
  await page.evaluate((types) => {
    const { app, LiteGraph } = window;
    app.graph.clear();
    let [left, before] = [0, null];
    for (const [i, one] of types.entries()) {
      const node = LiteGraph.createNode(one);
      node.id = 1000 + i; // of no node that has shown something
      node.pos = [left, 0];
      app.graph.add(node);
      left += node.size[0] + 60;
      const slot = before?.outputs.findIndex((out) => node.inputs.some((into) => into.type === out.type));
      if (before) before.connect(slot, node, node.inputs.findIndex((into) => into.type === before.outputs[slot].type));
      before = node;
    }
  }, CHAINS[type]);
  await page.waitForTimeout(1000);
  const file = path.join(work, `${type}.png`);
  await photograph(page, file);
  shrink("jpg", file, path.join(DOCS, "pictures", `${type}.jpg`), WIDEST);
  console.log(`web/docs/pictures/${type}.jpg`);
}

const named = (given, all) => given?.split(",") ?? (options.workflow ?? options.node ? [] : all);
const workflows = named(options.workflow, allWorkflows()).map(workflowFile).filter(({ pack }) => pack === PACK);
const host = new Host({ frontEnd: frontEnds[options["front-end"]], port: Number(options.port), inputs: options.input,
  checkpoints: true }); // else the page complains of what lacks
let browser;
try {
  await host.start([...workflows, workflowFile("Make the reference with any checkpoint")]); // for its checkpoint
  const window = await launch();
  ({ browser } = window);
  for (const workflow of workflows) {
    await open(window.page, host);
    await ofWorkflow(window.page, workflow);
  }
  for (const type of named(options.node, Object.keys(CHAINS))) {
    await open(window.page, host);
    await ofChain(window.page, type);
  }
} finally {
  await browser?.close();
  await host.stop();
  fs.rmSync(work, { recursive: true, force: true });
}
