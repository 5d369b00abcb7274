// What a person does with the pack in the front end, each as one check that throws if it does not work.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { DOCS } from "./host.mjs";
import { drawn, fit, shownPicture } from "./page.mjs";

const COMPARE = "GenVECompare";
const stage = (page) => page.locator(".genve-stage").first();

const state = (page) => page.evaluate((type) => {
  const view = window.app.graph._nodes.find((node) => node.type === type).genveCompare;
  const { parts } = view;
  return {
    clip: parts.afterLayer.style.clipPath, frame: view.frame, zoom: view.zoom.scale, playing: view.playing !== null,
    sources: [parts.before, parts.after].map((picture) => picture.firstChild?.src),
    widths: [parts.before, parts.after].map((picture) => picture.firstChild?.naturalWidth ?? 0),
    inset: !parts.inset.hidden, note: getComputedStyle(parts.note).display !== "none",
    graph: [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset],
  };
}, COMPARE);

const compareIn = (workflow) => workflow.graph.nodes.find((node) => node.type === COMPARE);

async function pressInto(page, share, action) {
  const box = await stage(page).boundingBox();
  const at = (x) => [box.x + box.width * x, box.y + box.height * 0.4];
  await page.mouse.move(...at(share[0]));
  await page.mouse.down();
  await page.mouse.move(...at((share[0] + share[1]) / 2));
  await page.mouse.move(...at(share[1]));
  await action?.();
  await page.mouse.up();
}

/** Drags the split: it moves, the picture changes, the node and the graph stay where they are. */
export async function drag(page, workflow) {
  if (!compareIn(workflow)) return "no Compare node";
  await fit(page, COMPARE);
  await page.waitForFunction((type) => window.app.graph._nodes.find((node) => node.type === type)
    .genveCompare.parts.after.firstChild?.naturalWidth, COMPARE);
  const before = await state(page);
  assert.ok(before.widths[0] > 0 && before.widths[0] === before.widths[1], `widths ${before.widths}`);
  await pressInto(page, [0.5, 0.2]);
  const left = await stage(page).screenshot();
  const moved = await state(page);
  await pressInto(page, [0.2, 0.85]);
  const right = await stage(page).screenshot();
  const again = await state(page);
  const share = (clip) => Number(clip.match(/([\d.]+)%/)[1]);
  assert.ok(Math.abs(share(moved.clip) - 20) < 2, `split at ${moved.clip}, wanted 20 %`);
  assert.ok(Math.abs(share(again.clip) - 85) < 2, `split at ${again.clip}, wanted 85 %`);
  assert.ok(!left.equals(right), "the picture did not change with the split");
  assert.deepEqual(again.graph, before.graph, "the graph moved with the split");
  await pressInto(page, [0.85, 0.5]);
  return `split 50 % to ${share(moved.clip)} % to ${share(again.clip)} %`;
}

/** Scrubs through the frames with the slider and the keys, plays and stops. */
export async function scrub(page, workflow) {
  const frames = compareIn(workflow) && await page.locator(".genve-scrubber").first().getAttribute("max");
  if (!Number(frames)) return "no clip";
  const first = await state(page);
  const picture = await stage(page).screenshot();
  const slider = await page.locator(".genve-scrubber").first().boundingBox();
  await page.mouse.click(slider.x + slider.width - 9, slider.y + slider.height / 2);
  await page.waitForTimeout(300);
  const last = await state(page);
  assert.equal(last.frame, Number(frames), "a click at the slider's end");
  assert.notDeepEqual(last.sources, first.sources);
  assert.ok(!picture.equals(await stage(page).screenshot()), "the picture did not change with the frame");
  await page.locator(".genve-compare").first().focus();
  await page.keyboard.press("ArrowLeft");
  assert.equal((await state(page)).frame, Number(frames) - 1, "left arrow");
  await page.keyboard.press("Home");
  assert.equal((await state(page)).frame, 0, "Home");
  await page.locator(".genve-play").first().click();
  await page.waitForFunction((type) => window.app.graph._nodes.find((n) => n.type === type).genveCompare.frame > 1, COMPARE);
  await page.keyboard.press("Space");
  const paused = await state(page);
  assert.equal(paused.playing, false, "the space bar pauses");
  await page.waitForTimeout(300);
  assert.equal((await state(page)).frame, paused.frame, "a paused clip stays");
  return `${Number(frames) + 1} frames`;
}

/** Zooms with the wheel and back; an unfocused view leaves the wheel to the graph. */
export async function zoom(page, workflow) {
  if (!compareIn(workflow)) return "no Compare node";
  const box = await stage(page).boundingBox();
  const middle = [box.x + box.width / 2, box.y + box.height / 2];
  await page.evaluate(() => document.activeElement?.blur());
  await page.mouse.move(...middle);
  const before = await state(page);
  await page.mouse.wheel(0, -120);
  await page.waitForTimeout(300);
  const unfocused = await state(page);
  assert.equal(unfocused.zoom, 1, "the wheel zoomed a view that had no focus");
  assert.notEqual(unfocused.graph[0], before.graph[0], "the wheel did not reach the graph");
  await fit(page, COMPARE);
  await page.mouse.click(...middle);
  const focused = await state(page);
  await page.mouse.wheel(0, -120);
  await page.mouse.wheel(0, -120);
  await page.waitForTimeout(300);
  const zoomed = await state(page);
  assert.ok(zoomed.zoom > 1.3, `zoom ${zoomed.zoom} after two turns of the wheel`);
  assert.deepEqual(zoomed.graph, focused.graph, "the graph zoomed too");
  await page.mouse.dblclick(...middle);
  assert.equal((await state(page)).zoom, 1, "a double click resets");
  return `zoom ${zoomed.zoom.toFixed(2)}`;
}

/** The view grows with the node, and the middle button still moves the graph. */
export async function resize(page, workflow) {
  if (!compareIn(workflow)) return "no Compare node";
  const side = async () => Object.values(await stage(page).boundingBox()).slice(2);
  const grow = (by) => page.evaluate(({ type, by }) => {
    const node = window.app.graph._nodes.find((one) => one.type === type);
    node.setSize([node.size[0] + by, node.size[1] + by]);
    window.app.canvas.setDirty(true, true);
  }, { type: COMPARE, by });
  const small = await side();
  await grow(40);
  let large = small;
  const larger = () => large[0] > small[0] + 20 && large[1] > small[1] + 20;
  for (let wait = 0; wait < 20 && !larger(); wait++) {
    await page.waitForTimeout(300); // a busy machine draws late
    large = await side();
  }
  assert.ok(larger(), `the view went from ${small} to ${large} px`);
  await grow(-40);
  await fit(page, COMPARE);
  const { graph } = await state(page);
  const box = await stage(page).boundingBox();
  const at = [box.x + box.width / 3, box.y + box.height / 2];
  await page.mouse.move(...at);
  await page.mouse.down({ button: "middle" });
  await page.mouse.move(at[0] + 15, at[1] + 10);
  await page.mouse.move(at[0] + 30, at[1] + 20);
  await page.mouse.up({ button: "middle" });
  await page.waitForTimeout(300);
  const moved = await state(page);
  assert.notDeepEqual(moved.graph, graph, "the middle button did not move the graph");
  await fit(page, COMPARE);
  return `${small.map(Math.round).join("x")} to ${large.map(Math.round).join("x")} px`;
}

/** The reference's inset goes and comes with its button and its key. */
export async function inset(page, workflow) {
  if (!compareIn(workflow)?.inputs.some((input) => input.name === "reference" && input.link)) return "no reference";
  const shown = (await state(page)).inset;
  assert.ok(shown, "the reference is shown at first");
  await page.locator(".genve-toggle").first().click();
  assert.equal((await state(page)).inset, false, "the button hides it");
  await page.keyboard.press("r");
  assert.ok((await state(page)).inset, "the key R shows it again");
  return "hidden and shown";
}

/** The view comes back after a reload of the page, and changes with the next run. */
export async function survives(page, workflow, { reload, queue }) {
  if (!compareIn(workflow)) return "no Compare node";
  const before = await state(page);
  await reload();
  await page.waitForFunction((type) => window.app.graph._nodes.find((node) => node.type === type)
    ?.genveCompare?.parts.after.firstChild?.naturalWidth, COMPARE, { timeout: 20000 });
  const after = await state(page);
  assert.equal(after.note, false);
  const run = ({ sources }) => sources.map((url) => url.match(/filename=(\w+?_)/)[1]);
  assert.deepEqual(run(after), run(before), "the files of the last run");
  const changed = await page.evaluate((type) => {
    const node = window.app.graph._nodes.find((one) => one.type === type);
    const widget = node.widgets.find((one) => one.name === "resize");
    widget.value = widget.value === "nearest" ? "bicubic" : "nearest";
    return widget.value;
  }, COMPARE);
  await queue();
  const old = run(after).join();
  const shown = async () => run(await state(page)).join();
  for (let wait = 0; wait < 30 && await shown() === old; wait++) await page.waitForTimeout(300); // a busy machine loads late
  assert.notEqual(await shown(), old, "a new run shows new files");
  return `reloaded, run again with ${changed}`;
}

/** Nodes lie apart from each other and within a group, as they are drawn now: before a run or, with pictures, after it. */
export async function layout(page, workflow) {
  const { nodes, groups } = await drawn(page);
  const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
  const within = (a, b) => a.left >= b.left && a.top >= b.top && a.right <= b.right + 1 && a.bottom <= b.bottom + 1;
  const wrong = nodes.flatMap((a, i) => nodes.slice(i + 1).filter((b) => !apart(a, b)).map((b) => `${a.name} over ${b.name}`));
  if (workflow.graph.groups.length) {
    wrong.push(...nodes.filter((a) => !groups.some((b) => within(a, b))).map((a) => `${a.name} is in no group`));
    wrong.push(...groups.flatMap((a, i) => groups.slice(i + 1).filter((b) => !apart(a, b)).map((b) => `${a.name} over ${b.name}`)));
  }
  assert.deepEqual(wrong, []);
  return `${nodes.length} nodes in ${groups.length} groups`;
}

/** What the run saved: a clip as long as the one that was loaded and four times its size, played by the page. */
export async function result(page, workflow) {
  if (!workflow.graph.nodes.some((node) => node.type === "SaveVideo")) return "nothing is saved";
  const clip = (type) => page.evaluate((type) => {
    const node = window.app.graph._nodes.find((one) => one.type === type);
    const saved = window.app.nodeOutputs[node.id]?.images?.[0]; // of Save Video
    const file = saved ?? { filename: node.widgets[0].value, type: "input", subfolder: "" };
    return new Promise((resolve, reject) => {
      const video = document.createElement("video");
      video.onloadedmetadata = () => resolve([video.videoWidth, video.videoHeight, video.duration]);
      video.onerror = () => reject(new Error(`${file.filename} cannot be played`));
      video.src = window.app.api.apiURL(`/view?${new URLSearchParams(file)}`);
    });
  }, type);
  const [from, to] = [await clip("LoadVideo"), await clip("SaveVideo")];
  assert.deepEqual(to.slice(0, 2), [4 * from[0], 4 * from[1]]);
  assert.ok(Math.abs(to[2] - from[2]) < 0.01, `${from[2]} s became ${to[2]} s`);
  const shown = await page.evaluate(() => [...document.querySelectorAll("video")].map((video) => video.videoWidth));
  assert.ok(shown.includes(to[0]), `no player shows the result, only clips of ${shown} px width`);
  return `${from.slice(0, 2).join("x")} to ${to.slice(0, 2).join("x")} px, ${to[2].toFixed(2)} s`;
}

/** Every node that made pictures shows them, not what it showed while it worked. */
export async function pictures(page) {
  const wrong = await page.evaluate(() => window.app.graph._nodes.flatMap((node) => {
    const made = (window.app.nodeOutputs[node.id]?.images ?? []).map(({ filename }) => filename);
    if (!made.some((file) => /\.(png|jpg|webp)$/.test(file))) return []; // clips are in players
    const vue = document.querySelector(`[data-node-id="${node.id}"]`);
    const shown = [...(vue ? vue.querySelectorAll("img") : node.imgs ?? [])].map((img) => decodeURIComponent(img.src));
    return shown.some((address) => made.some((file) => address.includes(file))) ? []
      : [`${node.getTitle()} made ${made[0]} and shows ${shown.join(", ") || "nothing"}`];
  }));
  assert.deepEqual(wrong, []);
}

/**
 * The help page of every node of ours opens in a language from the node's own button, with its first sentence and picture.
 * labels: of that language; where the page lies it says itself, beside web/docs.
 */
export async function help(page, labels, locale) {
  for (const type of Object.keys(labels)) {
    const file = path.join(DOCS, ...(locale === "en" ? [`${type}.md`] : [type, `${locale}.md`]));
    const text = fs.readFileSync(file, "utf8");
    await alone(page, type);
    await page.locator("[data-testid=info-button]").first().click();
    const pane = page.locator(".node-help-content").filter({ has: page.getByRole("heading", { level: 1, name: heading(text), exact: true }) });
    await pane.first().waitFor({ timeout: 15000 });
    for (const [, picture] of text.matchAll(/!\[[^\]]*\]\(([^)]+)\)/g)) await shownPicture(page, pane.first(), picture);
  }
  return `${Object.keys(labels).length} pages`;
}

const heading = (text) => text.match(/^# (.+)$/m)[1];

/** A graph of one new node, selected and in the middle. */
async function alone(page, type) {
  await page.evaluate((type) => {
    const { app, LiteGraph } = window;
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    node.pos = [0, 0];
    app.graph.add(node);
  }, type);
  await fit(page, type, { left: 500, top: 120, right: 520, bottom: 60 });
  await page.evaluate(() => {
    const { canvas, graph } = window.app;
    canvas.deselectAll?.();
    canvas.selectNode(graph._nodes[0]);
    canvas.setDirty(true, true);
  });
  await page.waitForTimeout(300);
}

/** Titles, inputs and outputs of every node of ours in the language of the page. */
export async function words(page, labels) {
  const wrong = await page.evaluate((labels) => Object.entries(labels).flatMap(([type, wanted]) => {
    const node = window.LiteGraph.createNode(type);
    const name = (slot) => slot.label ?? slot.localized_name ?? slot.name;
    const widgets = Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, name(widget)]));
    const inputs = { ...Object.fromEntries(node.inputs.map((slot) => [slot.name, name(slot)])), ...widgets };
    const pairs = [[node.getTitle(), wanted.display_name],
      ...Object.entries(wanted.inputs).map(([id, { name }]) => [inputs[id], name]),
      ...Object.entries(wanted.outputs).map(([slot, { name: text }]) => [name(node.outputs[slot]), text])];
    return pairs.filter(([shown, text]) => shown !== text).map(([shown, text]) => `${type}: ${shown}, wanted ${text}`);
  }), labels);
  assert.deepEqual(wrong, []);
  return `${Object.keys(labels).length} nodes`;
}
