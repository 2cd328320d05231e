// Files and recordings as queries: chosen, dropped, pasted, or from the microphone.

import { canRecord, record } from "./record.js";

const by = (id) => document.getElementById(id);

/** Wire the inputs; ask(file) is called with each, fail(error, again) where there is none. */
export function wireInputs({ ask, fail, limits }) {
  by("choose").addEventListener("click", () => by("file").click());
  by("file").addEventListener("change", () => {
    take(by("file").files);
    by("file").value = "";
  });
  addEventListener("paste", (event) => take(event.clipboardData?.files));
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    by("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) by("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    by("drop").hidden = true;
    take(event.dataTransfer.files);
  });
  wireRecorder({ ask, fail, limits });

  function take(files) {
    if (files?.length) ask(files[0]);
  }
}

function wireRecorder({ ask, fail, limits }) {
  let recording = null;

  by("record").addEventListener("click", start);
  by("stop").addEventListener("click", finish);
  by("cancel").addEventListener("click", discard);
  addEventListener("keydown", (event) => event.key === "Escape" && recording && discard());

  async function start() {
    if (recording) return;
    try {
      recording = await record({ limit: limits().audio_seconds, tell, full: finish });
    } catch {
      return fail(new Error("The microphone cannot be used: allow it for this page."), start);
    }
    by("recorder").hidden = false;
    by("stop").focus();
  }

  function tell(seconds, level) {
    by("recorded").textContent = `${seconds.toFixed(1)} s`;
    by("level").value = level;
  }

  async function finish() {
    const ended = close();
    if (!ended) return;
    try {
      ask(await ended.stop());
    } catch {
      fail(new Error("The recording cannot be decoded: record a little longer."), start);
    }
  }

  function discard() {
    close()?.cancel();
    by("words").focus();
  }

  function close() {
    const ended = recording;
    recording = null;
    by("recorder").hidden = true;
    return ended;
  }
}

/** Offer the inputs that some collection can be asked by. */
export function offerInputs(queries, accept) {
  by("choose").hidden = !accept;
  by("file").accept = accept;
  by("record").hidden = !(queries.includes("audio") && canRecord());
  by("words").disabled = !queries.includes("text");
}
