// Calls to the fleet. Addresses are relative to the page, so they hold under any path of another proxy.
import { Refused } from "./errors.js";
import { key } from "./key.js";

const API = new URL("api/v1/ai/", document.baseURI);
const OPENAI = new URL("v1/audio/transcriptions", document.baseURI);

async function call(url, options = {}) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const answer = await fetch(url, { ...options, headers });
  const text = await answer.text();
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // Not JSON: an answer of a proxy in between.
  }
  if (answer.ok && content) return content;
  const reason = content?.error?.message ?? content?.message ?? `${url.pathname} answers ${answer.status}`;
  throw new Refused(answer.status, reason, answer.headers.get("Retry-After"));
}

/** What the node offers: `capabilities` and `model_cards`. */
export const info = async () => (await call(new URL("info", API))).data;

function form(recording, fields) {
  const made = new FormData();
  for (const [name, value] of fields) made.append(name, value);
  made.append("file", recording, recording.name);
  return { method: "POST", body: made };
}

/** The transcript of a recording (a File) as verbose_json, with words where the runtime times them. */
export async function transcribe(recording, language, signal) {
  const common = [["model", "asr"], ...(language ? [["language", language]] : [])];
  const timed = [["response_format", "verbose_json"], ["timestamp_granularities[]", "segment"]];
  for (const fields of [[...timed, ["timestamp_granularities[]", "word"]], timed, []]) {
    try {
      return await call(OPENAI, { ...form(recording, [...common, ...fields]), signal });
    } catch (error) {
      // 501: the runtime has no such times.
      if (error.status !== 501 || !fields.length) throw error;
    }
  }
}

/** The answer of a classifier, `emotion` or `synthesis`, to a recording. */
export const classify = async (task, recording, signal) =>
  (await call(new URL(task, API), { ...form(recording, []), signal })).data;

/** The WebSocket of live audio, and what it must be told for the API key. */
export function socket() {
  const url = new URL("stream", API);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url, key.get() ? ["ai-stream", `api-key.${key.get()}`] : []);
}
