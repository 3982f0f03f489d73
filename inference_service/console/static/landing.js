// The landing page: whether the fleet is healthy, and calls that work here as they are.
import { copy } from "./copy.js";
import { tabs } from "./tabs.js";

const $ = (id) => document.getElementById(id);
const base = location.origin;
let guarded = false;

const calls = {
  curl: () => `curl ${guarded ? "-H 'Authorization: Bearer YOUR_API_KEY' \\\n     " : ""}-F file=@recording.flac -F model=whisper-1 \\
     ${base}/v1/audio/transcriptions`,
  Python: () => `from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key="${guarded ? "YOUR_API_KEY" : "none"}")
with open("recording.flac", "rb") as recording:
    print(client.audio.transcriptions.create(model="whisper-1", file=recording).text)`,
  JavaScript: () => `import fs from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}/v1", apiKey: "${guarded ? "YOUR_API_KEY" : "none"}" });
const file = fs.createReadStream("recording.flac");
console.log((await client.audio.transcriptions.create({ model: "whisper-1", file })).text);`,
};
let shown = "curl";

function choose(name) {
  shown = name;
  $("call").textContent = calls[name]();
}

tabs(document.querySelector(".tabs"), $("panel"), Object.keys(calls), choose);
document.querySelector(".copy").addEventListener("click", (event) =>
  copy(event.target, calls[shown](), $("call"), $("copied")));

async function ask() {
  const pill = $("verdict");
  const show = (text, kind) => {
    pill.textContent = text;
    pill.className = `pill ${kind}`;
  };
  try {
    const answer = await fetch("/console/api/entrance", { signal: AbortSignal.timeout(4000) });
    const told = await answer.json();
    const changed = guarded !== told.guarded;
    guarded = told.guarded;
    $("key-note").hidden = !guarded;
    if (changed) choose(shown);
    $("foot").textContent = `Version ${told.version}`;
    if (told.healthy === 0) show("no node can take requests", "bad");
    else if (told.healthy < told.nodes) show(`${told.healthy} of ${told.nodes} nodes healthy`, "warn");
    else show(told.nodes === 1 ? "healthy, 1 node" : `healthy, ${told.nodes} nodes`, "good");
  } catch {
    show("the fleet's state is not known now", "warn");
  }
  setTimeout(ask, 5000);
}

ask();
