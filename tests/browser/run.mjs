// Runs workflows in the real front ends, one after the other, and does there what a person would do.
//
//   node tests/browser/run.mjs [--front-end bundled,newest,newest-vue] [--workflow name,path.json] [--port 8320]
//                              [--shots folder] [--host folder]
//
// Ends with 1 if anything failed. See README.md.
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import * as checks from "./checks.mjs";
import { allWorkflows, frontEnds, Host, labels, PACK, workflowFile } from "./host.mjs";
import { browseTemplates, fit, launch, load, loadTemplate, open, queue, shorten, switchLanguage } from "./page.mjs";

const COMPARE = "GenVECompare";

const { values: options } = parseArgs({ options: {
  "front-end": { type: "string", default: Object.keys(frontEnds).join() },
  workflow: { type: "string", default: allWorkflows().join() },
  port: { type: "string", default: "8320" },
  shots: { type: "string" }, // folder for screenshots
  host: { type: "string" }, // folder for the server, kept; else a temporary one
} });

let failures = 0;

async function step(page, name, work) {
  const begin = Date.now();
  const seconds = () => `${((Date.now() - begin) / 1000).toFixed(1)} s`;
  try {
    const said = await work();
    console.log(`  ok    ${name} (${seconds()})${said ? `: ${said}` : ""}`);
    return true;
  } catch (error) {
    failures++;
    console.log(`  FAIL  ${name} (${seconds()}): ${error.message}`);
    await shoot(page, `failed ${name}`);
    return false;
  }
}

async function shoot(page, name) {
  if (!options.shots) return;
  fs.mkdirSync(options.shots, { recursive: true });
  const file = path.join(options.shots, `${page.frontEnd} ${name}.png`.replaceAll(/[ /]/g, "_"));
  await page.screenshot({ path: file }).catch((error) => console.log(`  no picture ${file}: ${error.message.split("\n")[0]}`));
}

async function seeTemplates(page) {
  const dialog = await browseTemplates(page, PACK);
  await page.waitForTimeout(1500); // its pictures
  await shoot(page, "templates");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
}

async function runWorkflow(page, host, workflow) {
  const loaded = await step(page, `load ${workflow.name}`, async () => {
    await (workflow.pack ? loadTemplate : load)(page, workflow);
    await fit(page);
    await page.waitForTimeout(1000); // nodes and players take their size
    return checks.layout(page, workflow);
  });
  if (!loaded || !await step(page, `run ${workflow.name}`, () => shorten(page).then(() => queue(page)))) return;
  await fit(page);
  await page.waitForTimeout(2000); // pictures and players
  await shoot(page, workflow.name);
  for (const name of ["layout", "result", "pictures"]) await step(page, `${name} of ${workflow.name}`, () => checks[name](page, workflow));
  const again = { reload: () => open(page, host), queue: () => queue(page) };
  for (const name of ["drag", "scrub", "zoom", "inset", "resize", "survives"]) {
    await step(page, `${name} in ${workflow.name}`, () => checks[name](page, workflow, again));
  }
  if (!workflow.graph.nodes.some((node) => node.type === COMPARE)) return;
  await fit(page, COMPARE);
  await shoot(page, `${workflow.name} compare`);
}

/** Words and help pages of all our nodes, in the language that the page is in. */
async function runLanguage(page, locale) {
  await step(page, `words in ${locale}`, () => checks.words(page, labels(locale)));
  await step(page, `help pages in ${locale}`, () => checks.help(page, labels(locale), locale));
  await shoot(page, `help ${locale}`);
}

async function runFrontEnd(name, workflows) {
  const host = new Host({ frontEnd: frontEnds[name], port: Number(options.port), where: options.host, checkpoints: true });
  let browser;
  try {
    await host.start(workflows);
    const window = await launch();
    ({ browser } = window);
    const { page } = window;
    page.frontEnd = name;
    await open(page, host);
    console.log(`${name}: front end ${await page.evaluate(() => window.__COMFYUI_FRONTEND_VERSION__)}`);
    await step(page, "template browser", () => seeTemplates(page));
    for (const workflow of workflows) await runWorkflow(page, host, workflow);
    await runLanguage(page, "en");
    await switchLanguage(page, "zh");
    await runLanguage(page, "zh");
    await step(page, "no errors in the page", () => {
      if (page.problems.length) throw new Error([...new Set(page.problems)].join(" | "));
    });
  } finally {
    await browser?.close();
    await host.stop();
  }
}

const workflows = options.workflow.split(",").map(workflowFile);
for (const name of options["front-end"].split(",")) {
  if (!frontEnds[name]) throw new Error(`there is no front end ${name}, only ${Object.keys(frontEnds).join(", ")}`);
  if (name !== "bundled" && !frontEnds[name].static) {
    console.log(`${name}: skipped, GENVE_NEW_FRONT_END is not set`);
    continue;
  }
  await runFrontEnd(name, workflows);
}
console.log(failures ? `${failures} failed` : "all passed");
process.exitCode = failures ? 1 : 0;
