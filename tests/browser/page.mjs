// The front end in a browser: open, load a workflow, queue it, look.
import { chromium, tools } from "./host.mjs";

const ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader", "--autoplay-policy=no-user-gesture-required"];
const RUN_WITHIN = 300; // s, a workflow on a busy CPU
// Known and not ours: missing user files, the history of a newer front end on an older host, one error of 1.27.
const OTHERS = /Failed to load resource|reading 'id'|userdata|user\.css|\/jobs|Jobs API|fetch jobs|^Failed to fetch: 404$|api\.comfy\.org|firebase|Analytics|Sentry/i;

export async function launch(viewport = { width: 1280, height: 800 }) {
  const browser = await (await chromium()).launch({ executablePath: tools.chromium, headless: true, args: ARGUMENTS });
  const context = await browser.newContext({ viewport });
  return { browser, page: await context.newPage() };
}

/** Opens the front end in a language and waits until it rests. Errors of the page are kept in page.problems. */
export async function open(page, host, locale = "en") {
  await host.set("Comfy.TutorialCompleted", true); // else the template browser covers the page
  await host.set("Comfy.VueNodes.Enabled", host.frontEnd.vue);
  await host.set("Comfy.VueNodes.AutoScaleLayout", false);
  await host.set("Comfy.Locale", locale);
  await host.set("Comfy.Minimap.Visible", false); // would lie over the graph in a small window
  await host.set("Comfy.RightSidePanel.IsOpen", false);
  await host.set("Comfy.Graph.CanvasInfo", false);
  if (!page.problems) watch(page);
  await page.goto(host.address, { waitUntil: "domcontentloaded" });
  await page.waitForFunction(() => window.app?.graph && window.LiteGraph?.registered_node_types?.GenVECompare,
    null, { timeout: 120000 });
  await page.waitForTimeout(2000); // it restores its own last workflow after that point
  await page.keyboard.press("Escape");
}

function watch(page) {
  page.problems = [];
  const note = (text) => OTHERS.test(text) || page.problems.push(text.slice(0, 300));
  page.on("pageerror", (error) => note(`pageerror ${error.message}`));
  page.on("response", (answer) => { // ours must be there; a help page in English lies without its language in the name
    const { pathname } = new URL(answer.url());
    if (answer.status() >= 400 && /GenVE|\/view$/.test(pathname) && !pathname.endsWith("/en.md")) {
      page.problems.push(`${answer.status()} ${pathname}`);
    }
  });
  page.on("console", (message) => message.type() === "error" && note(message.text()));
}

/** Loads a graph as if its file were dropped; the types it asks for and does not find are an error. */
export async function load(page, workflow) {
  await page.evaluate(({ graph, name }) => window.app.loadGraphData(graph, true, true, name), workflow);
  await page.waitForTimeout(500);
  await checkLoaded(page, workflow.graph);
}

/** Loads a workflow through the template browser, as a user finds it: under the folder name of its pack. */
export async function loadTemplate(page, workflow) {
  await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.BrowseTemplates"));
  const dialog = page.locator("[role=dialog]").filter({ has: page.locator("[data-testid=template-workflows-content]") });
  await dialog.getByText(workflow.pack, { exact: true }).first().click();
  await dialog.locator(`[data-testid="template-workflow-${workflow.name}"]`).first().click();
  await dialog.waitFor({ state: "hidden" });
  await page.waitForTimeout(1000);
  await checkLoaded(page, workflow.graph);
}

async function checkLoaded(page, graph) {
  const { there, unknown } = await page.evaluate(() => ({
    there: window.app.graph._nodes.map((node) => node.type).sort(),
    unknown: window.app.graph._nodes.filter((node) => node.has_errors || node.last_serialization?.has_errors
      || (!window.LiteGraph.registered_node_types[node.type] && !node.subgraph)).map((node) => node.type),
  }));
  const wanted = graph.nodes.map((node) => node.type).sort();
  if (unknown.length) throw new Error(`unknown nodes: ${unknown.join(", ")}`);
  if (there.join() !== wanted.join()) throw new Error(`loaded ${there.join(", ")}; wanted ${wanted.join(", ")}`);
}

/** Queues what is open and waits for success. Throws with the message of the node that failed. */
export async function queue(page) {
  const result = await page.evaluate((seconds) => new Promise((resolve) => {
    const { app } = window;
    const said = (text) => resolve(text);
    app.api.addEventListener("execution_success", () => said("success"), { once: true });
    app.api.addEventListener("execution_error", (event) => said(`${event.detail.node_type}: ${event.detail.exception_message}`),
      { once: true });
    setTimeout(() => said(`not done in ${seconds} s`), seconds * 1000);
    app.queuePrompt(0, 1).then(() => {
      const refused = app.lastNodeErrors; // an empty object if there are none
      if (refused && Object.keys(refused).length) said(`refused: ${JSON.stringify(refused)}`);
    });
  }), RUN_WITHIN);
  if (result !== "success") throw new Error(result.trim());
  await page.waitForTimeout(500);
}

const MARGIN = 15; // px of the graph around its nodes
export const FREE = { left: 90, top: 110, right: 20, bottom: 80 }; // px of the page under menus

/** Corners of the whole graph with groups and titles, or of the nodes of one type: [left, top, right, bottom]. */
export function bounds(page, only = null) {
  return page.evaluate(({ only, margin }) => {
    const { graph } = window.app;
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const nodes = graph._nodes.filter((node) => !only || node.type === only);
    const boxes = [...nodes.map(({ pos, size }) => [pos[0], pos[1] - title, pos[0] + size[0], pos[1] + size[1]]),
      ...(only ? [] : graph._groups).map(({ pos, size }) => [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]])];
    const side = (i, pick, sign) => pick(...boxes.map((box) => box[i])) + sign * margin;
    return [side(0, Math.min, -1), side(1, Math.min, -1), side(2, Math.max, 1), side(3, Math.max, 1)];
  }, { only, margin: MARGIN });
}

/** Moves the view so that the whole graph (or one node) fills what is free of the page. */
export async function fit(page, only = null, free = FREE) {
  const [left, top, right, bottom] = await bounds(page, only);
  const { width, height } = page.viewportSize();
  const room = [width - free.left - free.right, height - free.top - free.bottom];
  const scale = Math.min(1.2, room[0] / (right - left), room[1] / (bottom - top));
  const offset = [-left + (free.left + (room[0] - (right - left) * scale) / 2) / scale,
    -top + (free.top + (room[1] - (bottom - top) * scale) / 2) / scale];
  await page.evaluate(({ scale, offset }) => {
    const { canvas } = window.app;
    canvas.ds.scale = scale;
    [canvas.ds.offset[0], canvas.ds.offset[1]] = offset;
    canvas.setDirty(true, true);
  }, { scale, offset });
  await page.waitForTimeout(700);
}
