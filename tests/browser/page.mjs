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
  await rested(page);
}

/** Changes the language as the settings dialog does; nodes get it when the page is loaded again. */
export async function switchLanguage(page, locale) {
  await page.evaluate((locale) => window.app.extensionManager.setting.set("Comfy.Locale", locale), locale);
  await page.reload({ waitUntil: "domcontentloaded" });
  await rested(page);
}

async function rested(page) {
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

/** Opens the template browser at the pack's own folder, as a user finds it. Returns the dialog. */
export async function browseTemplates(page, pack) {
  await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.BrowseTemplates"));
  const dialog = page.locator("[role=dialog]").filter({ has: page.locator("[data-testid=template-workflows-content]") });
  await dialog.getByText(pack, { exact: true }).first().click();
  return dialog;
}

/** Loads a workflow through the template browser, whose picture of it must be shown. */
export async function loadTemplate(page, workflow) {
  const dialog = await browseTemplates(page, workflow.pack);
  const card = dialog.locator(`[data-testid="template-workflow-${workflow.name}"]`).first();
  await card.scrollIntoViewIfNeeded();
  if (workflow.picture) await shownPicture(page, card); // one that is not found is among the page's problems
  await card.click();
  await dialog.waitFor({ state: "hidden" });
  await page.waitForTimeout(1000);
  await checkLoaded(page, workflow.graph);
}

/** Waits until a picture is shown inside of a locator: the first, or the first whose address holds `part`. */
export async function shownPicture(page, inside, part = "") {
  const picture = await inside.locator(part ? `img[src*="${part}"]` : "img").first().elementHandle({ timeout: 15000 });
  await page.waitForFunction((img) => img.complete && img.naturalWidth > 0, picture, { timeout: 15000 });
}

async function checkLoaded(page, graph) {
  const { there, unknown } = await page.evaluate(() => ({
    there: window.app.graph._nodes.map((node) => node.type).sort(),
    unknown: window.app.graph._nodes.map((node) => [node.type, node.subgraph])
      .filter(([type, inner]) => !inner && !window.LiteGraph.registered_node_types[type]).map(([type]) => type),
  }));
  const wanted = graph.nodes.map((node) => node.type).sort();
  if (unknown.length) throw new Error(`unknown nodes: ${unknown.join(", ")}`);
  if (there.join() !== wanted.join()) throw new Error(`loaded ${there.join(", ")}; wanted ${wanted.join(", ")}`);
}

/** Makes the open workflow's image sampling short: what is looked at here is that it runs. */
export async function shorten(page) {
  await page.evaluate((values) => {
    for (const node of window.app.graph._nodes) {
      for (const widget of node.widgets ?? []) widget.value = values[node.type]?.[widget.name] ?? widget.value;
    }
  }, { KSampler: { steps: 2 }, ImageScaleToTotalPixels: { megapixels: 0.05 } });
}

/** Queues what is open and waits for its success. Throws with the message of the node that failed or was refused. */
export async function queue(page) {
  const result = await page.evaluate((seconds) => new Promise((resolve) => {
    const { app } = window;
    const ended = {}; // prompt id -> message; another prompt's end is not ours
    let id = null;
    const listen = (type, message) => app.api.addEventListener(type, ({ detail }) => {
      ended[detail.prompt_id] = message(detail);
      if (id in ended) resolve(ended[id]);
    });
    listen("execution_success", () => "success");
    listen("execution_interrupted", () => "interrupted");
    listen("execution_error", (detail) => `${detail.node_type}: ${detail.exception_message}`);
    setTimeout(() => resolve(`not done in ${seconds} s`), seconds * 1000);
    const send = app.api.queuePrompt;
    app.api.queuePrompt = async (...prompt) => {
      const answer = await send.apply(app.api, prompt);
      id = answer.prompt_id;
      return answer;
    };
    app.queuePrompt(0, 1).finally(() => {
      app.api.queuePrompt = send;
      const refused = app.lastNodeErrors ?? {};
      if (Object.keys(refused).length) {
        app.api.interrupt(id); // outputs that do not depend on what was refused would run
        resolve(`refused: ${JSON.stringify(refused)}`);
      }
      if (id in ended) resolve(ended[id]);
    });
  }), RUN_WITHIN);
  if (result !== "success") throw new Error(result.trim());
  await page.waitForTimeout(500);
}

const MARGIN = 15; // px of the graph around its nodes
export const FREE = { left: 90, top: 110, right: 20, bottom: 80 }; // px of the page under menus

/** Corners of the whole graph with groups and titles, or of the nodes of one type: [left, top, right, bottom]. */
export async function bounds(page, only = null) {
  const { nodes, groups } = await drawn(page);
  const boxes = [...nodes, ...groups].filter(({ type }) => !only || type === only);
  const side = (name, pick, sign) => pick(...boxes.map((box) => box[name])) + sign * MARGIN;
  return [side("left", Math.min, -1), side("top", Math.min, -1), side("right", Math.max, 1), side("bottom", Math.max, 1)];
}

/**
 * Rectangles of the open graph as the page draws them, in its own px: nodes with their title bars, and groups.
 * Each is {name, type, left, top, right, bottom}.
 */
export function drawn(page) {
  return page.evaluate(() => {
    const { graph, canvas } = window.app;
    const { scale, offset } = canvas.ds;
    const area = canvas.canvas.getBoundingClientRect();
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const box = (name, type, left, top, width, height) => (
      { name, type, left, top, right: left + width, bottom: top + height });
    const nodes = graph._nodes.map((node) => {
      const name = `${node.getTitle()} (${node.type})`;
      const vue = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
      return vue ? box(name, node.type, (vue.left - area.left) / scale - offset[0], (vue.top - area.top) / scale - offset[1],
        vue.width / scale, vue.height / scale)
        : box(name, node.type, node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title);
    });
    return { nodes, groups: graph._groups.map(({ title: name, pos, size }) => box(name, "group", ...pos, ...size)) };
  });
}

/** Moves the view so that the whole graph (or one node) fills what is free of the page. */
export async function fit(page, only = null, free = FREE) {
  const [left, top, right, bottom] = await bounds(page, only);
  const { width, height } = page.viewportSize();
  const room = [width - free.left - free.right, height - free.top - free.bottom];
  const scale = Math.min(1.2, room[0] / (right - left), room[1] / (bottom - top));
  const corner = [free.left + (room[0] - (right - left) * scale) / 2, free.top + (room[1] - (bottom - top) * scale) / 2];
  await page.evaluate(({ scale, corner, left, top }) => {
    const { canvas } = window.app;
    const area = canvas.canvas.getBoundingClientRect(); // beside or under the menus, as the front end has it
    canvas.ds.scale = scale;
    canvas.ds.offset[0] = (corner[0] - area.left) / scale - left;
    canvas.ds.offset[1] = (corner[1] - area.top) / scale - top;
    canvas.setDirty(true, true);
  }, { scale, corner, left, top });
  await settled(page);
}

const SETTLED_WITHIN = 15; // s

/** Waits until nodes and views stay where they are drawn: a busy machine draws late, and a press would miss. */
export async function settled(page) {
  const places = () => page.evaluate(async () => {
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    return JSON.stringify([...document.querySelectorAll("[data-node-id], .genve-stage")].map((one) => one.getBoundingClientRect()));
  });
  let before = await places();
  for (const until = Date.now() + SETTLED_WITHIN * 1000; Date.now() < until;) {
    await page.waitForTimeout(400);
    const now = await places();
    if (now === before) return;
    before = now;
  }
  throw new Error(`the page does not come to rest in ${SETTLED_WITHIN} s`);
}
