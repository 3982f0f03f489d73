// A card for each classifier: on or off, its verdict, the share of each label, and what it cannot be trusted with.

const KINDS = { emotion: "Emotion", synthesis: "Synthetic speech" };
const NAMES = { emotion: "emotion_detection", synthesis: "synthesis_detection" };

const percent = (share) => `${Math.round(share * 100)} %`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter(Boolean));
  return made;
}

function words(task, data) {
  if (task === "emotion") return [data.emotion, Object.entries(data.emotions)];
  const found = data.is_synthetic ? "Synthetic voice" : "Human voice";
  return [found, [["synthetic", data.score], ["human", 1 - data.score]]];
}

function bars(shares) {
  const list = element("ul", { className: "bars" });
  for (const [label, share] of shares.sort((one, other) => other[1] - one[1])) {
    const bar = element("i", { ariaHidden: "true" });
    bar.style.setProperty("--share", `${share * 100}%`);
    list.append(element("li", {}, element("b", { textContent: label }), bar, element("span", { textContent: percent(share) })));
  }
  return list;
}

/** The cards of what `info` says the node offers. */
export function cards(parent, info) {
  const made = {};
  for (const [task, title] of Object.entries(KINDS)) {
    if (!info.capabilities.includes(NAMES[task])) continue;
    const model = info.model_cards[task] ?? {};
    const box = element("input", { type: "checkbox", checked: true, id: `ask-${task}` });
    const kind = element("span", { className: "pill" });
    const body = element("div", { className: "verdict", ariaLive: "polite" });
    const caveat = element("p", { className: "caveat" });
    const card = element("section", { className: "card verdict", id: task },
      element("div", { className: "title" },
        element("h2", {}, element("label", { className: "switch" }, box, title)), kind), body, caveat);
    card.setAttribute("aria-label", title);
    parent.append(card);

    const describe = (data) => {
      const known = data.kind ?? model.kind;
      kind.hidden = !known || known === "unknown";
      kind.textContent = known;
      kind.className = `pill ${known === "neural" ? "good" : "warn"}`;
      kind.title = "How the model comes to its answers";
      caveat.textContent = data.caveat ?? model.caveat ?? "";
      caveat.hidden = !caveat.textContent;
    };
    const empty = () => body.replaceChildren(element("p", { className: "quiet small", textContent: model.error ?? "Nothing heard yet." }));
    describe({});
    empty();
    box.addEventListener("change", () => { if (!box.checked) body.replaceChildren(element("p", { className: "quiet small", textContent: "Not asked." })); else empty(); });
    made[task] = {
      name: NAMES[task],
      get isOn() { return box.checked; },
      clear: () => box.checked && empty(),
      show(data) {
        const [found, shares] = words(task, data);
        describe(data);
        body.replaceChildren(
          element("p", { className: "found" }, `${found[0].toUpperCase()}${found.slice(1)} `, element("small", { textContent: percent(data.confidence) })),
          bars(shares));
      },
      fail(text) {
        body.replaceChildren(element("p", { className: "card-error", textContent: text }));
      },
    };
  }
  return made;
}
