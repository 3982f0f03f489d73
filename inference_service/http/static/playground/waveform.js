// The waveform on a canvas: while a recording is made its last seconds, afterwards all of it with the place of playback.
import { peaks } from "./sound.js";

const BAR = 3; // pixels, with the gap
const LIVE_SECONDS = 12;

export function waveform(canvas, seek) {
  let shown = null; // {samples} or {live: peaks of tenths of seconds}
  let duration = 0;
  let place = 0;
  let cached = null;

  function draw() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio)) cached = null;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const count = Math.floor(width / BAR);
    const bars = shown?.live ? tail(shown.live, count) : (cached ??= peaks(shown?.samples ?? new Float32Array(count), count));
    const top = shown?.live ? 1 : Math.max(...bars, 0.05);
    const played = shown?.live ? count : duration ? (place / duration) * count : 0;
    for (let at = 0; at < count; at++) {
      const size = Math.max(2, ((bars[at] / top) ** 0.7 * 0.94) * height);
      pen.fillStyle = colour(at < played ? "--accent" : "--edge");
      pen.beginPath();
      pen.roundRect(at * BAR, (height - size) / 2, BAR - 1, size, 1);
      pen.fill();
    }
    if (!shown?.live && duration) {
      pen.fillStyle = colour("--text");
      pen.fillRect(Math.min(width - 2, (place / duration) * width), 0, 2, height);
    }
  }

  // The last seconds, each tenth as a few bars, at the right side.
  function tail(live, count) {
    const each = count / (LIVE_SECONDS * 10);
    const last = live.slice(-LIVE_SECONDS * 10);
    const made = new Float32Array(count);
    for (let at = 0; at < count; at++) {
      const from = Math.floor((at - count) / each) + last.length;
      if (from >= 0 && from < last.length) made[at] = last[from];
    }
    return made;
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * duration;
  }

  const canSeek = () => shown && !shown.live && duration > 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (!canSeek()) return;
    canvas.setPointerCapture(event.pointerId);
    seek(at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canSeek() && event.buttons) seek(at(event));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    const target = event.key === "Home" ? 0 : event.key === "End" ? duration : step ? place + step : null;
    if (target === null || !canSeek()) return;
    event.preventDefault();
    seek(Math.min(duration, Math.max(0, target)));
  });
  new ResizeObserver(() => { cached = null; draw(); }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  return {
    /** All of a recording. */
    show(samples, seconds) {
      [shown, duration, place, cached] = [{ samples }, seconds, 0, null];
      canvas.setAttribute("aria-valuemax", seconds.toFixed(1));
      draw();
    },
    /** The beginning of a recording that is being made. */
    begin() {
      [shown, duration, place] = [{ live: [] }, 0, 0];
      draw();
    },
    add(samples) {
      shown.live.push(peaks(samples, 1)[0]);
      draw();
    },
    move(seconds) {
      place = seconds;
      canvas.setAttribute("aria-valuenow", seconds.toFixed(1));
      canvas.setAttribute("aria-valuetext", `${seconds.toFixed(1)} of ${duration.toFixed(1)} seconds`);
      draw();
    },
  };
}
