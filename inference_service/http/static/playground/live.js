// Live audio over the fleet's WebSocket: samples go out, results come back.
import { closed, Refused } from "./errors.js";
import { socket as open } from "./fleet.js";

/** Samples in [-1, 1] as 16-bit PCM. A recording of 16 bits comes out as it was. */
export function pcm(samples) {
  const made = new Int16Array(samples.length);
  for (let at = 0; at < samples.length; at++) made[at] = Math.max(-32768, Math.min(32767, Math.round(samples[at] * 32768)));
  return made;
}

/**
 * A stream that is ready for audio. `result(task, data, isFinal, seconds)` is called for each result; `seconds` passed
 * between the sending of its last sample and its arrival, null where an earlier result had these samples. `ended` settles when the fleet has answered everything, and
 * rejects with the reason if it does not.
 */
export function stream({ rate, tasks, language, interval, result }) {
  const socket = open();
  socket.binaryType = "arraybuffer";
  const sentAt = [];
  let newest = 0; // of the binary messages that a result has covered
  const hello = {
    type: "start", format: "pcm", sample_rate: rate, channels: 1, tasks, language: language || null, flush_interval_ms: interval,
  };
  return new Promise((ready, refuse) => {
    let failure = null;
    let finished;
    const ended = new Promise((resolve, reject) => (finished = { resolve, reject }));
    ended.catch(() => {}); // whoever waits for it is told; nobody may be waiting yet
    socket.onopen = () => socket.send(JSON.stringify(hello));
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "ready") ready({ send, end, ended });
      else if (message.type === "error") failure = new Refused(message.code, message.message);
      else if (message.type === "result") {
        const isNew = message.sequence > newest;
        newest = Math.max(newest, message.sequence);
        const seconds = isNew ? (performance.now() - sentAt[message.sequence - 1]) / 1000 : null;
        result(message.result_type, JSON.parse(message.result_data), message.is_final, seconds);
      }
    };
    socket.onclose = (event) => {
      if (event.code === 1000) return finished.resolve();
      const reason = failure ?? closed(event.code);
      finished.reject(reason);
      refuse(reason);
    };
  });

  function send(samples) {
    if (socket.readyState !== WebSocket.OPEN) return;
    sentAt.push(performance.now());
    socket.send(pcm(samples).buffer);
  }
  function end() {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
  }
}
