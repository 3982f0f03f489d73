// A row of tabs over one panel. `choose(name)` is called for the tab that a user or `select` chooses.
export function tabs(row, panel, names, choose) {
  const made = names.map((name) => {
    const tab = document.createElement("button");
    Object.assign(tab, { type: "button", textContent: name, id: `tab-${name}` });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    tab.addEventListener("click", () => select(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = made[(made.indexOf(tab) + step + made.length) % made.length];
      next.focus();
      next.click();
    });
    return tab;
  });
  row.replaceChildren(...made);

  function select(name) {
    for (const tab of made) {
      const chosen = tab.textContent === name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    panel.setAttribute("aria-labelledby", `tab-${name}`);
    choose(name);
  }

  select(names[0]);
  return select;
}
