// The docs' pictures of the workflows, from the real front end after a run (before it, where a checkpoint lacks):
// docs/screens/<workflow>.png, in lower case and with underscores.
//
//   node tests/browser/screenshots.mjs [--front-end newest] [--workflow name,...] [--input folder] [--out docs/screens]
//                                      [--port 8320]
//
// --input: files for the loaders; what is not in it is made (20 frames of 88x56 px).
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { allWorkflows, frontEnds, HERE, Host, PACK, ROOT, tools, workflowFile } from "./host.mjs";
import { bounds, fit, FREE, launch, load, missingModels, open, queue } from "./page.mjs";

const LARGEST = [1800, 1200]; // px of a picture
const kB = 250;

const { values: options } = parseArgs({ options: {
  "front-end": { type: "string", default: tools.newest ? "newest" : "bundled" },
  workflow: { type: "string" },
  input: { type: "string" },
  out: { type: "string", default: path.join(ROOT, "docs", "screens") },
  port: { type: "string", default: "8320" },
} });

/** The graph alone, as large as it is, at most LARGEST. */
async function photograph(page, file) {
  const [left, top, right, bottom] = await bounds(page);
  const scale = Math.min(1, LARGEST[0] / (right - left), LARGEST[1] / (bottom - top));
  const size = [(right - left) * scale, (bottom - top) * scale].map(Math.ceil);
  await page.setViewportSize({ width: size[0] + FREE.left + FREE.right, height: size[1] + FREE.top + FREE.bottom });
  await page.waitForTimeout(500);
  await fit(page);
  await middleFrame(page);
  await page.mouse.move(2, 2); // no tooltip
  await page.waitForTimeout(2500); // "job queued" goes, players show their first frame
  await page.screenshot({ path: file, clip: { x: FREE.left, y: FREE.top, width: size[0], height: size[1] } });
  execFileSync(tools.python, [path.join(HERE, "shrink.py"), file, String(kB * 1000)]);
}

function middleFrame(page) {
  return page.evaluate(() => {
    for (const { genveCompare: view } of window.app.graph._nodes) {
      if (view?.data) view.goTo(Math.floor(view.data.frames.length / 2));
    }
  });
}

const named = options.workflow?.split(",") ?? allWorkflows();
const workflows = named.map(workflowFile).filter((workflow) => options.workflow || workflow.pack === PACK);
const host = new Host({ frontEnd: frontEnds[options["front-end"]], port: Number(options.port), inputs: options.input });
fs.mkdirSync(options.out, { recursive: true });
let browser;
try {
  await host.start(workflows);
  const window = await launch();
  ({ browser } = window);
  for (const workflow of workflows) {
    await open(window.page, host);
    await load(window.page, workflow);
    if (!(await missingModels(window.page)).length) await queue(window.page);
    const file = path.join(options.out, `${workflow.name.toLowerCase().replaceAll(" ", "_")}.png`);
    await photograph(window.page, file);
    console.log(`${file}: ${Math.round(fs.statSync(file).size / 1000)} kB`);
  }
} finally {
  await browser?.close();
  await host.stop();
}
