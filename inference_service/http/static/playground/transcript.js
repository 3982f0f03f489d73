// The text: grey while it may still change, then words that follow the playback and lead to their place in it.

export function transcript(elements, seek) {
  const { box, final, partial, hint } = elements;
  let words = [];
  let current = -1;

  function clear(waiting = "") {
    hint.hidden = !waiting;
    hint.textContent = waiting;
    final.textContent = partial.textContent = "";
    words = [];
    current = -1;
  }

  function mark(number) {
    if (number === current) return;
    words[current]?.button.removeAttribute("aria-current");
    current = number;
    words[current]?.button.setAttribute("aria-current", "true");
  }

  // One tab stop for all words; arrow keys move between them.
  function focus(number) {
    const next = words[Math.min(words.length - 1, Math.max(0, number))];
    for (const word of words) word.button.tabIndex = word === next ? 0 : -1;
    next?.button.focus();
  }

  box.addEventListener("keydown", (event) => {
    const at = words.findIndex((word) => word.button === event.target);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const target = event.key === "Home" ? 0 : event.key === "End" ? words.length - 1 : step ? at + step : null;
    if (at < 0 || target === null) return;
    event.preventDefault();
    focus(target);
  });

  return {
    clear,
    /** Another result of a stream. */
    heard(text, isFinal) {
      hint.hidden = true;
      if (isFinal) {
        if (text) final.append(final.textContent ? ` ${text}` : text);
        partial.textContent = "";
      } else {
        partial.textContent = final.textContent && text ? ` ${text}` : text;
      }
    },
    /** The whole text, with the times of its words where there are some. */
    show({ text, words: timed }, canPlay) {
      clear();
      box.classList.toggle("still", !canPlay);
      if (!text) {
        hint.hidden = false;
        hint.textContent = "No speech was heard in this recording.";
        return;
      }
      if (!timed?.length || !canPlay) {
        final.textContent = text;
        return;
      }
      let position = 0;
      for (const { word, start, end } of timed) {
        const place = text.indexOf(word, position);
        if (place > position) final.append(text.slice(position, place));
        if (place >= 0) position = place + word.length;
        const button = document.createElement("button");
        Object.assign(button, { type: "button", className: "word", textContent: word, tabIndex: words.length ? -1 : 0, title: `${start.toFixed(2)} s` });
        const number = words.length;
        button.addEventListener("click", () => {
          focus(number);
          seek(start);
        });
        final.append(button);
        words.push({ button, start, end });
      }
      final.append(text.slice(position));
    },
    /** The playback is at `seconds`. */
    follow(seconds) {
      let at = -1;
      for (const [number, word] of words.entries()) if (word.start <= seconds) at = number;
      // In a pause no word is marked.
      mark(at >= 0 && seconds < words[at].end + 0.15 ? at : -1);
    },
    get isEmpty() {
      return !final.textContent && !partial.textContent;
    },
  };
}
