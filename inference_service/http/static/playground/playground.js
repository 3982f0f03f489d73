// The playground: sound comes from the microphone or a file, goes to the fleet live or at once, and its text is shown.
import { cards as makeCards } from "./cards.js";
import { copy } from "./copy.js";
import { told } from "./errors.js";
import * as fleet from "./fleet.js";
import { FORMATS, isTimed, written } from "./formats.js";
import { key } from "./key.js";
import { stream } from "./live.js";
import { player as makePlayer } from "./player.js";
import { settings as makeSettings } from "./settings.js";
import * as sound from "./sound.js";
import { tabs } from "./tabs.js";
import { transcript as makeTranscript } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const settings = makeSettings($);
const player = makePlayer($, (seconds) => text.follow(seconds));
const text = makeTranscript({ box: $("words"), final: $("final"), partial: $("partial"), hint: $("hint") }, (seconds) => player.play(seconds));
let cards = {};
let answer = null; // the transcript of the whole recording
let format = "Text";
let work = null; // what runs: {stop()}
let last = null; // the last recording: {file, samples, rate}

function state(word, kind = "") {
  $("state").textContent = word;
  $("state").className = `pill ${kind}`;
}

function showError(error) {
  const [what, remedy] = told(error);
  $("error-what").textContent = what;
  $("error-remedy").textContent = remedy;
  $("error").hidden = false;
  state("failed", "bad");
}

function showFigures(figures) {
  $("figures").hidden = !figures.length;
  $("figures").replaceChildren(...figures.map(([name, value, note]) => {
    const box = document.createElement("div");
    const [term, data, small] = ["dt", "dd", "small"].map((each) => document.createElement(each));
    term.textContent = name;
    small.textContent = note;
    data.append(value, small);
    box.append(term, data);
    return box;
  }));
}

const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 10 ? 1 : 0)} s`);
const asked = () => Object.values(cards).filter((card) => card.isOn);

// --- what a user starts -----------------------------------------------------------------------------------------------

async function run(job, word) {
  if (work) return;
  $("error").hidden = true;
  answer = null;
  text.clear(word === "reading the recording" ? "Recognising …" : "Listening …");
  showFormat();
  showFigures([]);
  for (const card of Object.values(cards)) card.clear();
  const abort = new AbortController();
  work = { stop: () => abort.abort() };
  busy(true);
  state(word);
  try {
    await job(abort.signal);
    state("done", "good");
  } catch (error) {
    if (error.name === "AbortError") state("stopped");
    else showError(error);
  }
  work = null;
  busy(false);
}

function busy(is, recording = false) {
  $("record").disabled = (is && !recording) || Boolean(sound.whyNoMicrophone());
  $("record").setAttribute("aria-pressed", String(recording));
  $("record-word").textContent = recording ? "Stop" : "Record";
  $("file").disabled = is;
  $("stop").hidden = !is || recording;
  $("again").hidden = is || !last;
  $("level").hidden = !recording;
  if (is) player.enable(false);
}

async function live(rate, lags) {
  const tasks = ["speech_recognition", ...asked().map((card) => card.name)];
  const shown = Object.fromEntries(asked().map((card) => [card.name, card]));
  return stream({
    rate, tasks, language: settings.language, interval: settings.interval,
    result(task, data, isFinal, lag) {
      if (task !== "speech_recognition") return shown[task]?.show(data);
      text.heard(data.text, isFinal);
      if (data.text && lag !== null) lags.push(lag);
    },
  });
}

function record() {
  return run(async () => {
    const parts = [];
    const lags = [];
    let open = null;
    const early = []; // heard before the stream was ready
    const microphone = await sound.microphone((samples) => {
      if (!parts.length) player.begin("from the microphone");
      parts.push(samples);
      player.add(samples);
      showLevel(samples);
      if (open) open.send(samples);
      else early.push(samples);
    });
    const stopped = new Promise((resolve) => (work.stop = resolve));
    busy(true, true);
    try {
      open = await live(microphone.rate, lags);
      early.forEach(open.send);
      state("listening", "good");
      await Promise.race([stopped, open.ended]);
    } finally {
      microphone.close();
      busy(true);
      if (parts.length) keep(sound.wav(sound.joined(parts), microphone.rate, "recording.wav"), sound.joined(parts), microphone.rate);
    }
    await finish(open, lags, parts.length > 0);
  }, "starting the microphone");
}

function showLevel(samples) {
  const level = sound.level(samples);
  $("level").setAttribute("aria-valuenow", Math.round(level));
  $("level").classList.toggle("loud", level > -6);
  $("level").firstChild.style.transform = `scaleX(${(level + 60) / 60})`;
}

// The last words of a stream, then the whole recording once more: it has the times of words, and what is said later
// helps with what was said before.
async function finish(open, lags, isHeard = true) {
  state("waiting for the last words");
  open.end();
  await open.ended;
  const sorted = [...lags].sort((one, other) => one - other);
  const figures = sorted.length
    ? [["Text follows speech by", seconds(sorted[Math.floor(sorted.length / 2)]), `median; at most ${seconds(sorted.at(-1))}`]]
    : [];
  if (isHeard) await whole(AbortSignal.timeout(600000), figures, false);
}

async function open(file) {
  if (work) return;
  let samples = null;
  await run(async (signal) => {
    if (!file.size) throw new Error(`${file.name} is empty`);
    samples = await sound.decode(file);
    keep(file, samples, sound.RATE);
    if (settings.mode === "live" && samples) await playLive(signal);
    else await whole(signal, [], true);
  }, "reading the recording");
}

async function playLive(signal) {
  const { samples, rate } = last;
  const lags = [];
  const stream = await live(rate, lags);
  const began = performance.now();
  player.play(0);
  state("playing", "good");
  let sent = 0;
  await new Promise((resolve, reject) => {
    const timer = setInterval(() => {
      const due = Math.min(samples.length, Math.round(((performance.now() - began) / 1000) * rate));
      if (due > sent) stream.send(samples.subarray(sent, due));
      sent = due;
      if (sent === samples.length || signal.aborted) settle(resolve);
    }, 100);
    const settle = (how, reason) => {
      clearInterval(timer);
      how(reason);
    };
    stream.ended.then(() => settle(resolve), (error) => settle(reject, error));
  }).finally(() => player.pause());
  await finish(stream, lags);
}

// All of the last recording at once. Classifiers run beside it and report on their own cards.
async function whole(signal, figures, classifies) {
  state("recognising");
  const began = performance.now();
  const others = classifies ? Object.entries(cards).filter(([, card]) => card.isOn) : [];
  const classified = others.map(async ([task, card]) => {
    try {
      card.show(await fleet.classify(task, last.file, signal));
    } catch (error) {
      if (error.name !== "AbortError") card.fail(told(error).join(" "));
    }
  });
  answer = await fleet.transcribe(last.file, settings.language, signal);
  const took = (performance.now() - began) / 1000;
  const length = answer.duration ?? answer.usage?.seconds ?? (last.samples?.length ?? 0) / last.rate;
  text.show(answer, player.canPlay);
  showFormat();
  showFigures([
    ...figures,
    ["Whole recording in", seconds(took), `${seconds(length)} of audio`],
    ...(length ? [["Real-time factor", (took / length).toFixed(2), `${(length / took).toFixed(1)} times as fast as speech`]] : []),
    ["Language", settings.nameOf(answer.language ?? answer.languages?.[0]?.code), settings.language ? "as you chose" : "detected"],
  ]);
  await Promise.all(classified);
}

function keep(file, samples, rate) {
  last = { file, samples, rate };
  player.show(file, samples, rate);
}

// --- the text in its formats ------------------------------------------------------------------------------------------

function showFormat() {
  const asWords = format === "Text";
  $("words").hidden = !asWords;
  $("formatted").hidden = asWords;
  $("actions").hidden = !answer;
  $("words-help").hidden = !asWords || !answer?.words?.length || !player.canPlay;
  const name = FORMATS[format];
  const subtitles = name === "srt" || name === "vtt";
  const missing = !answer ? "No text yet." : subtitles && !isTimed(answer) ? "This node's model gives no times, so there are no subtitles." : null;
  $("formatted").textContent = missing ?? written(answer, name);
  $("copy").disabled = Boolean(missing);
  $("download").hidden = Boolean(missing);
  $("download").textContent = `Download .${name}`;
}

tabs(document.querySelector(".tabs"), $("panel"), Object.keys(FORMATS), (name) => {
  format = name;
  showFormat();
});
$("copy").addEventListener("click", () =>
  copy($("copy"), written(answer, FORMATS[format]), format === "Text" ? $("final") : $("formatted"), $("news")));
$("download").addEventListener("click", (event) => {
  const link = event.currentTarget;
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([written(answer, FORMATS[format])], { type: "text/plain" }));
  link.download = `${last.file.name.replace(/\.[^.]*$/, "")}.${FORMATS[format]}`;
});

// --- what a user does -------------------------------------------------------------------------------------------------

$("record").addEventListener("click", () => (work ? work.stop() : record()));
$("stop").addEventListener("click", () => work?.stop());
$("again").addEventListener("click", () => open(last.file));
$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // so that the same file can be chosen again
  if (file) open(file);
});
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    const file = event.dataTransfer?.files[0];
    if (name === "drop" && file) open(file);
  });
}
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value);
  ask(true);
});

async function ask(isGiven = false) {
  state("asking the node");
  try {
    const info = await fleet.info();
    $("key-form").hidden = true;
    $("error").hidden = true;
    $("cards").replaceChildren();
    cards = makeCards($("cards"), info);
    settings.show(info);
    busy(false);
    state("ready", "good");
  } catch (error) {
    if (error.status !== 401) return showError(error);
    $("key-error").hidden = !isGiven;
    key.forget();
    $("key-form").hidden = false;
    $("file").disabled = $("record").disabled = true;
    state("needs an API key", "warn");
  }
}

settings.explainMicrophone(sound.whyNoMicrophone());
busy(true);
ask();
