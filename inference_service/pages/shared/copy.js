// Copies a text, and says so on the button. Without HTTPS there is no clipboard: `source` is selected for Ctrl-C.
export async function copy(button, text, source, news) {
  const label = button.dataset.label ?? (button.dataset.label = button.textContent);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl-C";
    news.textContent = "The text is selected: press Ctrl-C.";
    return;
  }
  button.textContent = "Copied";
  news.textContent = "The text is in the clipboard.";
  setTimeout(() => (button.textContent = label), 1500);
}
