// One chart over the last hour, drawn by uPlot; its figures are also a sentence, for those who do not see it.
import uPlot from "./uPlot.esm.js";
import { count } from "./words.js";

// Steps of an axis that counts: half a stream would be written as one.
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

const LIGHT = ["#2b50d6", "#0d7a45", "#b35c00", "#b3261e"];
const DARK = ["#8ea8ff", "#4fd08a", "#f0b34b", "#ff8a80"];
const dark = matchMedia("(prefers-color-scheme: dark)");

const clock = (time) => new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export function chart(parent, title, series, words) {
  const key = document.createElement("span");
  key.className = "key";
  const plot = document.createElement("div");
  plot.className = "plot";
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", `${title}: no figures yet`);
  const heading = document.createElement("h2");
  heading.append(title, key);
  const card = document.createElement("div");
  card.className = "card chart";
  card.append(heading, plot);
  parent.append(card);
  let drawn = null;
  let last = null;

  function build() {
    const colours = dark.matches ? DARK : LIGHT;
    const style = getComputedStyle(document.documentElement);
    const quiet = style.getPropertyValue("--quiet").trim();
    const line = style.getPropertyValue("--line").trim();
    key.replaceChildren(...series.map(([, name, colour]) => {
      const each = document.createElement("span");
      each.textContent = name;
      each.style.setProperty("--stroke", colours[colour]);
      return each;
    }));
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return new uPlot({
      width: plot.clientWidth, height: plot.clientHeight, legend: { show: false }, padding: [8, 24, 0, 0],
      cursor: { points: { size: 6 } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
      axes: [{ ...axis, size: 30, space: 70, values: (_, splits) => splits.map(clock) }, { ...axis, size: 62, values: (_, splits) => splits.map(words), incrs: words === count ? WHOLE : undefined }],
      series: [{}, ...series.map(([, name, colour]) => ({
        label: name, stroke: colours[colour], width: 2, spanGaps: false, points: { show: false },
        fill: series.length === 1 ? `${colours[colour]}22` : undefined,
      }))],
    }, [[], ...series.map(() => [])], plot);
  }

  function draw(columns) {
    last = columns;
    const given = series.map(([name]) => columns[name] ?? []);
    const known = given.some((values) => values.some((value) => value !== null));
    if (!known) {
      drawn?.destroy();
      drawn = null;
      const note = document.createElement("span");
      note.className = "none";
      note.textContent = "No figures yet";
      plot.replaceChildren(note);
      plot.setAttribute("aria-label", `${title}: no figures yet`);
      return;
    }
    if (!drawn) {
      plot.replaceChildren();
      drawn = build();
    }
    const now = columns.time.at(-1);
    drawn.setData([columns.time, ...given], false);
    drawn.setScale("x", { min: Math.min(now - 300, Math.max(columns.time[0], now - 3600)), max: now });
    const told = series.map(([, name], number) => `${name} ${words(given[number].at(-1))}`).join(", ");
    plot.setAttribute("aria-label", `${title} over the last hour; now ${told}`);
  }

  const again = () => {
    drawn?.destroy();
    drawn = null;
    if (last) draw(last);
  };
  dark.addEventListener("change", again);
  const watch = new ResizeObserver(() => drawn?.setSize({ width: plot.clientWidth, height: plot.clientHeight }));
  watch.observe(plot);
  return {
    draw,
    remove() {
      dark.removeEventListener("change", again);
      watch.disconnect();
      drawn?.destroy();
      card.remove();
    },
  };
}
