// The console: asks for the fleet every two seconds and draws it. No request leaves the gateway.
import { chart } from "./charts.js";
import { ago, bytes, count, percent, rate, seconds } from "./words.js";

const ROUND_MS = 2000;
const HISTORY_MS = 4000;
const $ = (id) => document.getElementById(id);
const KEY = "fleet-console-key";
let fleet = null;
let before = new Map();
let charts = [];
let shownPart = null;

async function get(path) {
  const key = sessionStorage.getItem(KEY);
  const answer = await fetch(`/console/api/${path}`, {
    headers: key ? { Authorization: `Bearer ${key}` } : {},
    signal: AbortSignal.timeout(5000),
  });
  if (answer.status === 401) throw Object.assign(new Error("key"), { key: true });
  if (!answer.ok) throw new Error(`the console answers ${answer.status}`);
  return answer.json();
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

function stateOf(part) {
  if (part.state === "skipped") return ["skipped", "warn"];
  // A pod that its pool no longer has: it ends, or is not ready.
  if (part.state === "leaving" && part.health === "healthy") return ["leaving", "warn"];
  if (part.state === "leaving" && part.health === "down") return ["gone", ""];
  if (part.health === "healthy") return part.state === "drained" ? ["drained", "warn"] : ["healthy", "good"];
  if (part.health === "unknown") return ["asking", ""];
  return [part.health, "bad"];
}

function verdict() {
  const serving = fleet.nodes.filter((node) => node.state === "serving");
  const well = serving.filter((node) => node.health === "healthy").length;
  if (fleet.gateway.health === "down") return ["the gateway is down", "bad"];
  if (serving.some((node) => node.health === "unknown")) return ["asking the nodes", ""];
  if (!serving.length) return ["no node takes requests", "bad"];
  if (well === 0) return ["no node can take requests", "bad"];
  if (well < serving.length) return [`${well} of ${serving.length} nodes healthy`, "warn"];
  return ["all nodes healthy", "good"];
}

function showPill(pill, [word, kind]) {
  pill.textContent = word;
  pill.className = `pill ${kind}`;
}

function showTiles(figures) {
  const given = figures ?? {};
  const serving = fleet.nodes.filter((node) => node.state === "serving");
  const tiles = [
    ["Healthy nodes", `${serving.filter((node) => node.health === "healthy").length}`, `of ${serving.length}`],
    ["Requests", rate(given.requests), "/ s"],
    ["Errors", percent(given.errors), ""],
    ["Latency, p50", seconds(given.p50), ""],
    ["Latency, p99", seconds(given.p99), ""],
    ["Audio", rate(given.audio), "s / s"],
    ["Live streams", count(given.streams), ""],
    ["Running, queued", `${count(given.running)}, ${count(given.queued)}`, ""],
  ];
  $("tiles").replaceChildren(
    ...tiles.map(([name, value, unit]) =>
      element("div", { className: "card tile" }, element("dt", { textContent: name }),
        element("dd", {}, value, unit ? element("small", { textContent: unit }) : null)),
    ),
  );
}

function bar(share) {
  if (share === null || share === undefined) return null;
  const fill = element("i");
  fill.style.width = `${Math.round(Math.min(share, 1) * 100)}%`;
  return element("span", { className: "bar", ariaHidden: "true" }, fill);
}

function row(node) {
  const figures = node.figures ?? {};
  const cell = (label, ...content) => {
    const made = element("td", {}, ...content);
    made.dataset.label = label;
    return made;
  };
  const pill = element("span");
  showPill(pill, stateOf(node));
  const name = element("th", { scope: "row" },
    element("a", { href: `#${encodeURIComponent(node.name)}`, textContent: node.name }),
    element("small", { textContent: node.role + (node.version ? ` · ${node.version}` : "") }));
  const state = element("td", { className: "state" }, pill,
    node.reason ? element("small", { className: "reason", textContent: node.reason }) : null);
  const memory = figures.gpu_memory_total ? figures.gpu_memory / figures.gpu_memory_total : null;
  return element("tr", {}, name, state,
    cell("Requests/s", rate(figures.requests)), cell("p50", seconds(figures.p50)), cell("p99", seconds(figures.p99)),
    cell("Errors", percent(figures.errors)),
    cell("Running / queued", node.figures ? `${count(figures.running)} / ${count(figures.queued)}` : "–"),
    cell("Streams", count(figures.streams)), cell("Audio s/s", rate(figures.audio)),
    cell("GPU", bar(figures.gpu), percent(figures.gpu)), cell("GPU memory", bar(memory), bytes(figures.gpu_memory)),
    cell("Last change", node.changed ? `${ago(fleet.now - node.changed)} ago` : "–"));
}

function showRows() {
  const wanted = $("filter").value.trim().toLowerCase();
  const matches = (node) =>
    [node.name, node.host, node.role, stateOf(node)[0]].some((each) => each.toLowerCase().includes(wanted));
  const shown = fleet.nodes.filter(matches);
  const focused = document.activeElement?.closest("#rows")?.ownerDocument.activeElement.hash;
  $("rows").replaceChildren(...shown.map(row));
  if (focused) [...$("rows").querySelectorAll("a")].find((each) => each.hash === focused)?.focus();
  $("count").textContent = `${shown.length} of ${fleet.nodes.length}`;
  $("no-rows").hidden = shown.length > 0;
  $("no-rows").textContent = fleet.nodes.length ? "No node matches." : "This stack has no node.";
}

function showNode(node) {
  const figures = node.figures ?? {};
  $("node-title").textContent = node.name;
  showPill($("node-state"), stateOf(node));
  $("node-reason").hidden = !node.reason;
  $("node-reason").textContent = node.reason ? `${node.reason}. What to do: fleet doctor -s ${fleet.stack} --node ${node.name}` : "";
  const found = node.findings.length ? node.findings : ["The console found nothing wrong with this node."];
  $("findings").replaceChildren(...found.map((each) => element("li", { textContent: each })),
    element("li", { className: "quiet small", textContent: `The hosts themselves: fleet doctor -s ${fleet.stack} --node ${node.name}` }));
  const memory = figures.gpu_memory_total ? `${bytes(figures.gpu_memory)} of ${bytes(figures.gpu_memory_total)}` : "–";
  const facts = [
    ["Host", node.host || "–"], ["Role", node.role], ["Version", node.version || "–"],
    ["Models", node.models.map((each) => `${each.task}: ${each.name} ${each.version}`.trim()).join(", ") || "–"],
    ["In this state for", node.since ? ago(fleet.now - node.since) : "–"],
    ["Requests", `${rate(figures.requests)} a second`], ["Latency", `p50 ${seconds(figures.p50)}, p99 ${seconds(figures.p99)}`],
    ["Errors", percent(figures.errors)], ["Running, queued", `${count(figures.running)}, ${count(figures.queued)}`],
    ["Live streams", count(figures.streams)], ["Audio", `${rate(figures.audio)} s a second`],
    ["Last change", node.changed ? `${ago(fleet.now - node.changed)} ago` : "none seen"], ["GPU", percent(figures.gpu)], ["GPU memory", memory],
  ];
  $("facts").replaceChildren(...facts.map(([name, value]) =>
    element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
}

async function showLog(name) {
  $("log").textContent = "asking the node …";
  try {
    const told = await get(`nodes/${encodeURIComponent(name)}/log`);
    $("log").textContent = told.lines ? told.lines.join("\n") || "The log is empty." : told.error;
  } catch (error) {
    $("log").textContent = error.message;
  }
  $("log").scrollTop = $("log").scrollHeight;
}

const chosen = () => decodeURIComponent(location.hash.slice(1));

function show() {
  $("fleet").hidden = false;
  $("title").textContent = `Fleet ${fleet.stack}`;
  document.title = `${verdict()[0]} · fleet ${fleet.stack}`;
  showPill($("verdict"), verdict());
  $("updated").textContent = `as of ${new Date(fleet.now * 1000).toLocaleTimeString()}`;
  const node = fleet.nodes.find((each) => each.name === chosen());
  $("node").hidden = $("node-log").hidden = !node;
  $("list").hidden = $("tiles").hidden = Boolean(node);
  if (node) showNode(node);
  else {
    showTiles(fleet.figures);
    showRows();
  }
  tellNews();
  $("foot").textContent = `Version ${fleet.version}. Figures are of the last 20 seconds; charts hold the last hour.`;
}

function tellNews() {
  const news = [];
  for (const node of fleet.nodes) {
    const [word] = stateOf(node);
    if (before.has(node.name) && before.get(node.name) !== word) news.push(`${node.name} is ${word}`);
    before.set(node.name, word);
  }
  if (news.length) $("news").textContent = news.join(", ");
}

function askFor(what) {
  if (what !== "password") return;
  $("key-why").textContent = "A password opens this console; it stays in this tab only.";
  $("key-name").textContent = "Password";
  $("key-error").textContent = "That password is wrong.";
}

async function refresh() {
  try {
    fleet = await get("fleet");
    $("lost").hidden = true;
    $("key-form").hidden = true;
    show();
  } catch (error) {
    if (error.key) {
      $("key-error").hidden = !sessionStorage.getItem(KEY);
      sessionStorage.removeItem(KEY);
      $("key-form").hidden = false;
      $("fleet").hidden = true;
      askFor((await get("entrance").catch(() => ({}))).opened_by);
      return;
    }
    $("lost").textContent = "The console does not answer; the figures below are the last ones. Trying again …";
    $("lost").hidden = false;
  }
  setTimeout(refresh, ROUND_MS);
}

async function refreshCharts() {
  try {
    if (fleet) {
      const part = fleet.nodes.some((node) => node.name === chosen()) ? chosen() : "";
      if (part !== shownPart || !charts.length) {
        shownPart = part;
        charts.forEach((each) => each.remove());
        charts = [
          chart($("charts"), "Requests a second", [["requests", "requests", 0]], rate),
          chart($("charts"), "Latency", [["p50", "p50", 1], ["p99", "p99", 2]], seconds),
          chart($("charts"), "Errors", [["errors", "share", 3]], percent),
          chart($("charts"), "Work", [["running", "running", 0], ["queued", "queued", 2], ["streams", "streams", 1]], count),
          chart($("charts"), "Audio seconds a second", [["audio", "audio", 1]], rate),
          chart($("charts"), "GPU", [["gpu", "use", 0]], percent),
        ];
      }
      const columns = await get(`history?part=${encodeURIComponent(part)}`);
      charts.forEach((each) => each.draw(columns));
    }
  } catch {
    // `refresh` tells that the console does not answer.
  }
  setTimeout(refreshCharts, fleet ? HISTORY_MS : 500);
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value);
  refresh();
});
$("filter").addEventListener("input", showRows);
$("reload-log").addEventListener("click", () => showLog(chosen()));
window.addEventListener("hashchange", () => {
  if (!fleet) return;
  show();
  if (!$("node").hidden) showLog(chosen());
  $("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
refresh().then(() => { if (fleet && !$("node").hidden) showLog(chosen()); });
refreshCharts();
