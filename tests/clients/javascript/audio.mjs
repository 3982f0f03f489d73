// node audio.mjs BASE_URL API_KEY RECORDING: what OpenAI's client answers for a recording, as JSON.
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const [baseURL, apiKey, recording] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const file = () => createReadStream(recording);
const told = {};

for (const response_format of ["json", "text", "srt", "vtt", "verbose_json"])
  told[response_format] = await client.audio.transcriptions.create({ file: file(), model: "gpt-transcribe", response_format });

told.words = await client.audio.transcriptions.create({
  file: file(),
  model: "whisper-1",
  response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"],
  languages: ["en"],
  keywords: ["Americans", "country"],
});

told.events = [];
const stream = await client.audio.transcriptions.create({ file: file(), model: "gpt-4o-mini-transcribe", stream: true });
for await (const event of stream) told.events.push(event);

const errors = {
  model: { model: "gpt-4o-transcribe-diarize" },
  include: { model: "asr", include: ["logprobs"] },
  known_speaker_names: { model: "asr", known_speaker_names: ["agent"] },
};
told.errors = {};
for (const [name, fields] of Object.entries(errors))
  await client.audio.transcriptions.create({ file: file(), ...fields }).catch(({ status, code, param }) => {
    told.errors[name] = { status, code, param };
  });
await client.audio.translations.create({ file: file(), model: "whisper-1" }).catch(({ status, message }) => {
  told.errors.translation = { status, message };
});
told.models = (await client.models.list()).data.map(({ id }) => id);
told.model = (await client.models.retrieve("gpt-4o-mini-transcribe-2025-12-15")).id;

console.log(JSON.stringify(told));
