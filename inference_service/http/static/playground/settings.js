// What a user chooses, from what the node's model says that there is to choose.

const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

function name(code) {
  try {
    return names.of(code);
  } catch {
    return code; // not a code: a name in English
  }
}

const capital = (word) => (word ? `${word[0].toUpperCase()}${word.slice(1)}` : "–");

export function settings($) {
  return {
    get language() {
      return $("language").value;
    },
    get mode() {
      return document.querySelector("[name=mode]:checked").value;
    },
    get interval() {
      return Number($("interval").value);
    },
    nameOf: (language) => capital(name(language ?? "")),

    /** The menu of languages, and the model's name. */
    show(info) {
      const model = info.model_cards.asr ?? {};
      const languages = (model.languages ?? []).map((code) => [name(code), code]).sort(([one], [other]) => one.localeCompare(other));
      const chosen = $("language").value;
      $("language").replaceChildren(...[["Detect", ""], ...languages].map(([text, value]) => new Option(text, value)));
      $("language").value = languages.some(([, code]) => code === chosen) ? chosen : "";
      const count = languages.length === 1 ? `${languages[0][0]} only` : languages.length ? `${languages.length} languages` : "languages unknown";
      $("model").textContent = [`Model ${model.name ?? info.models?.asr}`, model.method, count].filter(Boolean).join(" · ");
    },

    /** Why there is no microphone (`sound.whyNoMicrophone`), and how to get it. */
    explainMicrophone(why) {
      $("no-microphone").hidden = !why;
      if (!why) return;
      $("record").setAttribute("aria-describedby", "no-microphone");
      if (why === "browser") {
        $("no-microphone").textContent = "This browser gives pages no microphone. Recordings work: choose one.";
        return;
      }
      const port = location.port || "80";
      const tunnel = `ssh -L 8080:${location.hostname}:${port} ${location.hostname}`;
      const steps = [
        ["Serve the fleet over HTTPS: ", "gateway.tls", " in the stack file."],
        ["Or, for now, open a tunnel: ", tunnel, ", then open http://localhost:8080/demo."],
      ].map(([before, code, after]) => {
        const step = document.createElement("li");
        const word = Object.assign(document.createElement("code"), { textContent: code });
        step.append(before, word, after);
        return step;
      });
      const list = document.createElement("ol");
      list.append(...steps);
      const lead = document.createElement("b");
      lead.textContent = "No microphone: this page came over plain HTTP, and browsers give a microphone only to HTTPS pages and to localhost.";
      $("no-microphone").replaceChildren(lead, " Recordings work here.", list);
    },
  };
}
