// Figures as people read them; a dash where there is none.
const none = "–";
const missing = (value) => value === null || value === undefined || Number.isNaN(value);

export const count = (value) => (missing(value) ? none : String(Math.round(value)));
export const rate = (value) => (missing(value) ? none : value >= 100 ? String(Math.round(value)) : value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, "") || "0");
export const percent = (value) => (missing(value) ? none : `${(value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`);

export function seconds(value) {
  if (missing(value)) return none;
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 10 ? 1 : 0)} s`;
}

export function bytes(value) {
  return missing(value) ? none : `${(value / 1e9).toFixed(1)} GB`;
}

export function ago(value) {
  if (value < 90) return `${Math.max(Math.round(value), 0)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} days`;
}
