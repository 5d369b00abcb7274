// Runs workflows in the real front ends, one after the other, and does there what a person would do.
//
//   node tests/browser/run.mjs [--front-end bundled,newest,newest-vue] [--workflow name,path.json] [--template]
//                              [--port 8320] [--shots folder] [--host folder]
//
// Ends with 1 if anything failed. See README.md.
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import * as checks from "./checks.mjs";
import { allWorkflows, frontEnds, Host, ROOT, workflowFile } from "./host.mjs";
import { fit, launch, load, loadTemplate, missingModels, open, queue } from "./page.mjs";

const COMPARE = "GenVECompare";
const HELP = { en: "Drag the line", zh: "拖动分割线" }; // a sentence of web/docs/GenVECompare.md and GenVECompare/zh.md

const { values: options } = parseArgs({ options: {
  "front-end": { type: "string", default: Object.keys(frontEnds).join() },
  workflow: { type: "string", default: allWorkflows().join() },
  template: { type: "boolean", default: false }, // open through the template browser what has a name
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

async function runWorkflow(page, host, workflow) {
  const loaded = await step(page, `load ${workflow.name}`, async () => {
    await (options.template && workflow.pack ? loadTemplate : load)(page, workflow);
    await fit(page);
  });
  const missing = loaded ? await missingModels(page) : [];
  if (missing.length) {
    console.log(`  skip  run ${workflow.name}: ${missing.join(", ")} is not installed`);
    await shoot(page, workflow.name);
  }
  if (!loaded || missing.length || !await step(page, `run ${workflow.name}`, () => queue(page))) return;
  await fit(page);
  await shoot(page, workflow.name);
  const again = { reload: () => open(page, host), queue: () => queue(page) };
  for (const name of ["drag", "scrub", "zoom", "inset", "resize", "survives"]) {
    await step(page, `${name} in ${workflow.name}`, () => checks[name](page, workflow, again));
  }
  if (!workflow.graph.nodes.some((node) => node.type === COMPARE)) return;
  await fit(page, COMPARE);
  await shoot(page, `${workflow.name} compare`);
}

/** Help page and title of the Compare node in a language. */
async function runLanguage(page, host, workflow, locale) {
  await open(page, host, locale);
  await load(page, workflow);
  await step(page, `help page in ${locale}`, () => checks.help(page, COMPARE, HELP[locale]));
  await shoot(page, `help ${locale}`);
  const labels = path.join(ROOT, "locales", locale, "nodeDefs.json");
  const wanted = fs.existsSync(labels) && JSON.parse(fs.readFileSync(labels))[COMPARE]?.display_name;
  await step(page, `title in ${locale}`, () => (wanted ? checks.title(page, COMPARE, wanted) : "no translation yet"));
}

async function runFrontEnd(name, workflows) {
  const host = new Host({ frontEnd: frontEnds[name], port: Number(options.port), where: options.host });
  const ours = workflowFile("compare_clip");
  let browser;
  try {
    await host.start([...workflows, ours]);
    const window = await launch();
    ({ browser } = window);
    const { page } = window;
    page.frontEnd = name;
    await open(page, host);
    console.log(`${name}: front end ${await page.evaluate(() => window.__COMFYUI_FRONTEND_VERSION__)}`);
    for (const workflow of workflows) await runWorkflow(page, host, workflow);
    await runLanguage(page, host, ours, "en");
    await runLanguage(page, host, ours, "zh");
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
