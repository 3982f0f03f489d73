// node realtime.mjs BASE_URL API_KEY PCM: a recording (16-bit, 24 kHz, mono) in a real-time session, with the
// client for node and with that for browsers, whose key is a subprotocol. Prints the events of both as JSON.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { WebSocket } from "ws";

const [baseURL, apiKey, recording] = process.argv.slice(2);
const audio = readFileSync(recording);
const client = new OpenAI({ baseURL, apiKey, dangerouslyAllowBrowser: true });
globalThis.WebSocket ??= WebSocket; // browsers, and node since 22

function transcribed(session) {
  return new Promise((resolve, reject) => {
    const events = [];
    session.on("error", reject);
    session.on("event", (event) => {
      events.push(event);
      if (event.type === "session.created") {
        const input = { turn_detection: null, transcription: { model: "gpt-live-transcribe", language: "en" } };
        session.send({ type: "session.update", session: { type: "transcription", audio: { input } } });
      } else if (event.type === "session.updated") {
        for (let at = 0; at < audio.length; at += 48_000)
          session.send({ type: "input_audio_buffer.append", audio: audio.subarray(at, at + 48_000).toString("base64") });
        session.send({ type: "input_audio_buffer.commit" });
      } else if (event.type === "conversation.item.input_audio_transcription.completed") {
        session.close();
        resolve(events);
      }
    });
  });
}

const model = "gpt-live-transcribe";
const told = {
  node: await transcribed(new OpenAIRealtimeWS({ model }, client)),
  browser: await transcribed(new OpenAIRealtimeWebSocket({ model }, client)),
};
console.log(JSON.stringify(told));
