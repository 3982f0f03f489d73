// The recording that is shown: its waveform, playing it, and where it is.
import { waveform } from "./waveform.js";

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** `follow(seconds)` is called while the recording plays, and after a seek. */
export function player($, follow) {
  const audio = $("player");
  const wave = waveform($("wave"), (seconds) => seek(seconds));
  let duration = 0;
  let made = 0; // seconds of a recording that is being made
  let canPlay = false;
  let enabled = true;

  function tell() {
    $("clock").textContent = duration ? `${clock(audio.currentTime)} / ${clock(duration)}` : clock(made);
    const playing = !audio.paused && !audio.ended;
    $("play").setAttribute("aria-pressed", String(playing));
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  function seek(seconds) {
    if (!canPlay) return;
    audio.currentTime = seconds;
    step();
  }

  function step() {
    wave.move(audio.currentTime);
    follow(audio.paused && audio.currentTime === 0 ? -1 : audio.currentTime);
    tell();
  }

  function frame() {
    step();
    if (!audio.paused && !audio.ended) requestAnimationFrame(frame);
  }

  audio.addEventListener("play", frame);
  for (const name of ["pause", "ended", "seeked"]) audio.addEventListener(name, step);
  $("play").addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));

  function allow() {
    $("play").disabled = !canPlay || !enabled;
    $("wave").setAttribute("aria-disabled", String(!canPlay));
  }

  return {
    get canPlay() {
      return canPlay;
    },
    enable(is) {
      enabled = is;
      allow();
    },
    begin(name) {
      audio.removeAttribute("src");
      [duration, made, canPlay, enabled] = [0, 0, false, true];
      $("stage").hidden = false;
      $("no-player").hidden = true;
      $("wave").hidden = false;
      $("name").textContent = name;
      allow();
      wave.begin();
      tell();
    },
    add(samples) {
      made += 0.1;
      wave.add(samples);
      tell();
    },
    /** A whole recording; `samples` null: the browser cannot play it. */
    show(file, samples, rate) {
      URL.revokeObjectURL(audio.src);
      canPlay = Boolean(samples?.length);
      enabled = true;
      duration = canPlay ? samples.length / rate : 0;
      audio.src = canPlay ? URL.createObjectURL(file) : "";
      $("stage").hidden = false;
      $("wave").hidden = $("play").hidden = $("clock").hidden = !canPlay;
      $("no-player").hidden = canPlay;
      $("name").textContent = file.name;
      if (canPlay) wave.show(samples, duration);
      allow();
      tell();
    },
    play(seconds) {
      seek(seconds);
      // A browser may refuse to play what no click began; the text does not depend on it.
      audio.play().catch(() => {});
    },
    pause: () => audio.pause(),
  };
}
