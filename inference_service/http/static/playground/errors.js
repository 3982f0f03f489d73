// What went wrong, and what to do about it. Every failure that the page shows goes through here.

/** The fleet's refusal: an HTTP status, its reason, and the seconds after which to try again (or null). */
export class Refused extends Error {
  constructor(status, reason, retryAfter = null) {
    super(reason);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const REMEDIES = {
  400: "Check that the file is a recording. What the fleet cannot read, ffmpeg converts: ffmpeg -i FILE -ac 1 speech.flac",
  401: "Reload the page and give one of the fleet's API keys.",
  408: "The connection is slow. Send a shorter or compressed recording, such as FLAC, Opus or MP3.",
  413: "Send a shorter or compressed recording, or raise the limit in the stack file (service.config.ai.request).",
  415: "Convert the recording: ffmpeg -i FILE -ac 1 speech.flac",
  429: "You have sent more than the gateway lets through for one client. Wait a few seconds and try again.",
  501: "This node's model cannot do that. The console shows which models the nodes have.",
  503: "The fleet is busy or a model is not ready. Try again in a few seconds; the console shows the nodes.",
  504: "The model took too long. Try a shorter recording; the console shows how busy the nodes are.",
};

/** The two sentences for an error: what went wrong, and what to do. */
export function told(error) {
  if (error instanceof Refused) {
    const wait = error.retryAfter ? `Try again in ${error.retryAfter} s; the console shows the nodes.` : null;
    return [sentence(error.message), wait ?? REMEDIES[error.status] ?? "Try again; the console shows whether the nodes are well."];
  }
  switch (error.name) {
    case "NotAllowedError":
      return ["The browser does not let this page use the microphone.", "Allow it at the left of the address bar, then record again."];
    case "NotFoundError":
      return ["This computer has no microphone that the browser can find.", "Plug one in, or choose a recording."];
    case "NotReadableError":
      return ["The microphone does not answer.", "Another program may use it: close that one, then record again."];
    case "TypeError":
      return error.message.match(/fetch|network|load/i) // browsers' words for a connection that failed
        ? ["The fleet cannot be reached.", "Check the network and that the gateway runs (fleet status), then try again."]
        : [sentence(`${error.name}: ${error.message}`), "Reload the page. If it comes again, it is a fault of this page."];
    default:
      return [sentence(error.message || String(error)), "Try again; the console shows whether the nodes are well."];
  }
}

/** The error of a WebSocket that was closed without one: 1006 is also a refused handshake. */
export function closed(code) {
  if (code === 1006) return new Refused(0, "the connection to the fleet was refused or cut");
  return new Refused(0, `the fleet closed the connection (${code})`);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}`.replace(/[^.!?]$/, "$&.");
