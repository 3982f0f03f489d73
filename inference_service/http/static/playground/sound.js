// Sound in the browser: the microphone, decoding a file, WAV, and the peaks of a waveform.
import { pcm } from "./live.js";

export const RATE = 16000;

// What browsers take out of a call's sound costs words: with their suppression of noise and echo "Americans, ask" became
// "American ask".
const AUDIO = { channelCount: 1, echoCancellation: false, noiseSuppression: false };

/** The microphone. `heard(samples)` is called ten times a second; `close()` turns it off. */
export async function microphone(heard) {
  const media = await navigator.mediaDevices.getUserMedia({ audio: AUDIO });
  const stopMedia = () => media.getTracks().forEach((track) => track.stop());
  let context = null;
  let tap;
  try {
    let source;
    try {
      context = new AudioContext({ sampleRate: RATE });
      source = context.createMediaStreamSource(media);
    } catch {
      // Some browsers connect a microphone only at its own rate; the fleet takes that too.
      await context?.close();
      context = new AudioContext();
      source = context.createMediaStreamSource(media);
    }
    await context.audioWorklet.addModule(new URL("tap.js", import.meta.url));
    tap = new AudioWorkletNode(context, "tap");
    tap.port.onmessage = (event) => heard(event.data);
    source.connect(tap);
  } catch (error) {
    stopMedia();
    throw error;
  }
  return {
    rate: context.sampleRate,
    close() {
      tap.port.onmessage = null; // what is still under way comes too late
      stopMedia();
      context.close();
    },
  };
}

/** Why there is no microphone, for people; null where there is one. */
export function whyNoMicrophone() {
  if (navigator.mediaDevices?.getUserMedia) return null;
  return isSecureContext ? "browser" : "insecure";
}

/** The samples of a file at 16 kHz, one channel; null where the browser cannot decode it. */
export async function decode(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  try {
    const decoded = await context.decodeAudioData(await file.arrayBuffer());
    return mixed(decoded);
  } catch {
    return null;
  }
}

function mixed(decoded) {
  const count = decoded.numberOfChannels;
  if (count === 1) return decoded.getChannelData(0);
  const sum = new Float32Array(decoded.length);
  for (let channel = 0; channel < count; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let at = 0; at < sum.length; at++) sum[at] += samples[at] / count;
  }
  return sum;
}

export function joined(parts) {
  const made = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}

/** A WAV file of 16 bits and one channel. */
export function wav(samples, rate, name) {
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, offset) => header.setUint8(at + offset, letter.charCodeAt(0)));
  const bytes = samples.length * 2;
  text(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new File([header, pcm(samples)], name, { type: "audio/wav" });
}

/** The loudest sample of each of `count` equal parts, in [0, 1]. */
export function peaks(samples, count) {
  const made = new Float32Array(count);
  for (let part = 0; part < count; part++) {
    const end = Math.floor(((part + 1) * samples.length) / count);
    for (let at = Math.floor((part * samples.length) / count); at < end; at++) made[part] = Math.max(made[part], Math.abs(samples[at]));
  }
  return made;
}

/** The level of samples in decibels of full scale, at least -60. */
export function level(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.max(-60, 10 * Math.log10(sum / Math.max(samples.length, 1) + 1e-12));
}
