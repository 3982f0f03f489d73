// A transcript as a text, subtitles or JSON. The subtitles are those of the server's response formats srt and vtt
// (inference_service/http/openai/subtitles.py); tests/browser/test_playground_formats.py compares them.
const LINE = 42; // characters
const CUE = 2 * LINE;
const CUE_SECONDS = 6;
const PAUSE_SECONDS = 0.6;
const SENTENCE_END = [".", "!", "?", "。", "！", "？", "…"];

export const FORMATS = { Text: "txt", SRT: "srt", VTT: "vtt", JSON: "json" };

/** The transcript (verbose_json) in one of FORMATS. */
export function written(transcript, format) {
  switch (format) {
    case "txt":
      return `${transcript.text}\n`;
    case "srt":
      return cues(transcript).map((cue, at) => `${at + 1}\n${times(cue, ",")}\n${wrapped(cue.text)}\n\n`).join("");
    case "vtt":
      return `WEBVTT\n\n${cues(transcript).map((cue) => `${times(cue, ".")}\n${escaped(wrapped(cue.text))}\n\n`).join("")}`;
    default:
      return `${JSON.stringify(transcript, null, 2)}\n`;
  }
}

/** Whether the transcript has the times that subtitles need. */
export const isTimed = (transcript) => Boolean(transcript.segments) || !transcript.text;

export function cues(transcript) {
  const made = [];
  const words = [...(transcript.words ?? [])];
  for (const segment of transcript.segments ?? []) {
    const own = taken(words, segment.text);
    if (own.length) made.push(...groups(own).map((group) => ({ start: group[0].start, end: group.at(-1).end, text: group.map((word) => word.word).join(" ") })));
    else if (segment.text.trim()) made.push({ start: segment.start, end: segment.end, text: segment.text.trim() });
  }
  return made;
}

// The words that begin `words` and are in `text`, one after the other; they are taken out of `words`.
function taken(words, text) {
  const own = [];
  let position = 0;
  while (words.length) {
    const place = text.indexOf(words[0].word, position);
    // Words are at most a few characters apart: a later place is the same word of another segment.
    if (place < 0 || text.slice(position, place).trim()) break;
    position = place + words[0].word.length;
    own.push(words.shift());
  }
  return own;
}

function groups(words) {
  const made = [];
  for (const word of words) {
    if (!made.length || endsBefore(made.at(-1), word)) made.push([]);
    made.at(-1).push(word);
  }
  return made;
}

function endsBefore(group, word) {
  const last = group.at(-1);
  const length = group.reduce((sum, shown) => sum + [...shown.word].length + 1, 0) + [...word.word].length;
  return SENTENCE_END.some((end) => last.word.endsWith(end)) || word.start - last.end > PAUSE_SECONDS ||
    word.end - group[0].start > CUE_SECONDS || length > CUE;
}

// Lines of at most 42 characters, broken at blanks and after hyphens between letters, as Python's textwrap does.
function wrapped(text) {
  const lines = [[]];
  for (let piece of text.split(/(\s+)|(?<=[\p{L}\d]{2}-)(?=\p{L}{2})/u).filter(Boolean).map((each) => [...each])) {
    if (!piece.join("").trim()) piece = [" "];
    if (lines.at(-1).length + (piece[0] === " " ? 0 : piece.length) > LINE && lines.at(-1).length && piece.length <= LINE) lines.push([]);
    while (piece.length > LINE) { // longer than a line: it is broken anywhere
      const room = LINE - lines.at(-1).length;
      lines.at(-1).push(...piece.splice(0, room));
      lines.push([]);
    }
    if (piece[0] !== " " || lines.at(-1).length) lines.at(-1).push(...piece);
  }
  return lines.map((line) => line.join("").trim()).filter(Boolean).join("\n");
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const times = (cue, separator) => `${time(cue.start, separator)} --> ${time(cue.end, separator)}`;

function time(seconds, separator) {
  const all = Math.round(1000 * seconds);
  const part = (value, digits = 2) => String(value).padStart(digits, "0");
  return `${part(Math.floor(all / 3600000))}:${part(Math.floor(all / 60000) % 60)}:${part(Math.floor(all / 1000) % 60)}${separator}${part(all % 1000, 3)}`;
}
