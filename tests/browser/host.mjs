// A ComfyUI server of our own with the pack linked in, and what the machine offers to run it with.
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const HERE = path.dirname(fileURLToPath(import.meta.url));
export const ROOT = path.resolve(HERE, "../..");
export const PACK = "ComfyUI-GenVE";
export const DOCS = path.join(ROOT, "web", "docs");
export const WORKFLOWS = path.join(ROOT, "workflows");
const OURS = "genve-browser-tests"; // a pack without nodes, so that the template browser shows our own workflows too
const STARTED_WITHIN = 240; // s

const env = process.env;
export const tools = {
  comfyui: env.COMFYUI_PATH ?? path.join(os.homedir(), "comfy/ComfyUI"),
  python: env.GENVE_PYTHON ?? "python3",
  chromium: env.GENVE_CHROMIUM ?? "/usr/bin/chromium",
  playwright: env.PLAYWRIGHT_CORE ?? "playwright-core", // a package's name, or its folder
  newest: env.GENVE_NEW_FRONT_END ?? "", // comfyui_frontend_package/static of a newer release
};

/** Front ends by name; `static` is empty for the one that the host brings. */
export const frontEnds = {
  bundled: { static: "", vue: false },
  newest: { static: tools.newest, vue: false },
  "newest-vue": { static: tools.newest, vue: true },
};

/** playwright-core's chromium. Throws if it is not installed. */
export async function chromium() {
  const found = fs.existsSync(tools.playwright);
  const from = found ? pathToFileURL(path.join(path.resolve(tools.playwright), "index.mjs")).href : tools.playwright;
  return (await import(from)).chromium;
}

/**
 * A workflow: a path, or the name of one in workflows/ or tests/browser/workflows/.
 * pack: its template folder.   picture: the template browser has one of it.
 */
export function workflowFile(name) {
  const places = [name, path.join(WORKFLOWS, `${name}.json`), path.join(HERE, "workflows", `${name}.json`)];
  const file = places.find((place) => place.endsWith(".json") && fs.existsSync(place));
  if (!file) throw new Error(`there is no workflow ${name}; looked for ${places.join(", ")}`);
  const folder = path.dirname(path.resolve(file));
  const pack = folder === WORKFLOWS ? PACK : folder === path.join(HERE, "workflows") ? OURS : null;
  const picture = fs.existsSync(file.replace(/json$/, "jpg"));
  return { name: path.basename(file, ".json"), pack, picture, graph: JSON.parse(fs.readFileSync(file)) };
}

/** Names of all workflows in workflows/, then our own. */
export function allWorkflows() {
  return [WORKFLOWS, path.join(HERE, "workflows")]
    .flatMap((folder) => (fs.existsSync(folder) ? fs.readdirSync(folder).sort() : []))
    .filter((file) => file.endsWith(".json"))
    .map((file) => path.basename(file, ".json"));
}

/** Our nodes as a language names them: locales/<language>/nodeDefs.json. */
export function labels(locale) {
  return JSON.parse(fs.readFileSync(path.join(ROOT, "locales", locale, "nodeDefs.json")));
}

const FOLDERS = { LoadVideo: "", LoadImage: "", CheckpointLoaderSimple: "../models/checkpoints/" }; // from the input folder

/** Files that a workflow's loaders ask for, also those in its subgraphs; checkpoints only where one of random weights will do. */
function inputsOf({ graph }, checkpoints) {
  const nodes = [...graph.nodes, ...(graph.definitions?.subgraphs ?? []).flatMap((part) => part.nodes)];
  return nodes
    .filter(({ type }) => type in FOLDERS && (checkpoints || type !== "CheckpointLoaderSimple"))
    .map((node) => FOLDERS[node.type]
      + (Array.isArray(node.widgets_values) ? node.widgets_values[0] : Object.values(node.widgets_values)[0]));
}

export class Host {
  /**
   * where: folder for all that the server writes; made new in the temporary folder if not given.
   * inputs: folder of files for the loaders; what is missing there is made.
   * checkpoints: also checkpoints are made, of random weights.
   */
  constructor({ frontEnd, port, where, inputs, checkpoints = false }) {
    this.inputs = inputs;
    this.checkpoints = checkpoints;
    this.where = where ?? fs.mkdtempSync(path.join(os.tmpdir(), "genve-browser-"));
    this.temporary = !where;
    this.port = port;
    this.address = `http://127.0.0.1:${port}`;
    this.frontEnd = frontEnd;
    this.log = path.join(this.where, "server.log");
  }

  /** workflows: those to be run; what they load is made and put into the input folder, unless it lies there. */
  async start(workflows) {
    const nodes = path.join(this.where, "custom_nodes");
    fs.mkdirSync(nodes, { recursive: true });
    if (!fs.existsSync(path.join(nodes, PACK))) fs.symlinkSync(ROOT, path.join(nodes, PACK), "dir");
    fs.mkdirSync(path.join(nodes, OURS), { recursive: true });
    fs.writeFileSync(path.join(nodes, OURS, "__init__.py"), "NODE_CLASS_MAPPINGS = {}\n");
    fs.cpSync(path.join(HERE, "workflows"), path.join(nodes, OURS, "workflows"), { recursive: true });
    if (this.inputs) fs.cpSync(this.inputs, path.join(this.where, "input"), { recursive: true });
    const inputs = [...new Set(workflows.flatMap((workflow) => inputsOf(workflow, this.checkpoints)))];
    execFileSync(tools.python, [path.join(HERE, "make_inputs.py"), path.join(this.where, "input"), ...inputs],
      { env: { ...env, COMFYUI_PATH: tools.comfyui }, stdio: ["ignore", "ignore", "inherit"] });
    const options = ["--cpu", "--listen", "127.0.0.1", "--port", this.port, "--disable-auto-launch",
      "--database-url", "sqlite:///:memory:", "--base-directory", this.where];
    if (this.frontEnd.static) options.push("--front-end-root", this.frontEnd.static);
    const log = fs.openSync(this.log, "w");
    this.process = spawn(tools.python, ["main.py", ...options.map(String)],
      { cwd: tools.comfyui, stdio: ["ignore", log, log] });
    process.once("exit", () => this.process.kill("SIGKILL")); // also when a check throws
    await this.#answers();
    return this;
  }

  async stop() {
    const gone = new Promise((resolve) => this.process.once("exit", resolve));
    if (this.process.exitCode === null) {
      this.process.kill();
      await gone;
    }
    if (this.temporary) fs.rmSync(this.where, { recursive: true, force: true });
  }

  async set(setting, value) {
    await fetch(`${this.address}/settings/${setting}`, { method: "POST", body: JSON.stringify(value) });
  }

  async #answers() {
    for (const until = Date.now() + STARTED_WITHIN * 1000; Date.now() < until;) {
      if (this.process.exitCode !== null) break;
      try {
        if ((await fetch(`${this.address}/system_stats`)).ok) return;
      } catch {
        // not yet
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    throw new Error(`ComfyUI did not start:\n${fs.readFileSync(this.log, "utf8").slice(-3000)}`);
  }
}
