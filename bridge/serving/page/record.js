// Sounds from the microphone, as WAV files: browsers record in formats that the server does not
// read, so the page decodes what was recorded and writes the samples.

import { decode } from "./sound.js";

export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder);

/**
 * Record until `stop()`, which promises the WAV file, or until `limit` seconds.
 * `tell(seconds, level)` is called while it goes on, level from 0 to 1; `full()` at the limit.
 */
export async function record({ limit, tell, full }) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  const done = new Promise((resolve) => recorder.addEventListener("stop", resolve));

  const context = new AudioContext();
  const meter = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(meter);
  const samples = new Float32Array(meter.fftSize);
  const began = performance.now();
  const timer = setInterval(() => {
    const seconds = (performance.now() - began) / 1000;
    meter.getFloatTimeDomainData(samples);
    tell(seconds, Math.min(1, 3 * Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length)));
    if (seconds >= limit) full();
  }, 100);
  recorder.start();

  async function end() {
    clearInterval(timer);
    if (recorder.state !== "inactive") recorder.stop();
    await done;
    for (const track of stream.getTracks()) track.stop();
    await context.close();
  }
  return {
    cancel: end,
    async stop() {
      await end();
      return toWav(new File(parts, "recording", { type: recorder.mimeType }));
    },
  };
}

/** A sound file as WAV: one channel, 16 bits. */
export async function toWav(file) {
  const sound = await decode(file);
  const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
  const bytes = new DataView(new ArrayBuffer(44 + 2 * sound.length));
  const words = (at, text) => [...text].forEach((c, i) => bytes.setUint8(at + i, c.charCodeAt(0)));
  words(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * sound.length, true);
  words(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true); // bytes of the format
  bytes.setUint16(20, 1, true); // PCM
  bytes.setUint16(22, 1, true); // channels
  bytes.setUint32(24, sound.sampleRate, true);
  bytes.setUint32(28, 2 * sound.sampleRate, true); // bytes a second
  bytes.setUint16(32, 2, true); // bytes a sample
  bytes.setUint16(34, 16, true); // bits a sample
  words(36, "data");
  bytes.setUint32(40, 2 * sound.length, true);
  for (let i = 0; i < sound.length; i++) {
    const mean = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
    bytes.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, mean)) * 32767), true);
  }
  return new File([bytes], `${file.name.replace(/\.\w+$/, "")}.wav`, { type: "audio/wav" });
}
