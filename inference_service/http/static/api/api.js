// The API page: OpenAPI Explorer in the fleet's colours, on a description whose server is where the page is from.
import "./openapi-explorer.min.js";
import { key } from "./key.js";
import { inside, name } from "./viewer-style.js";

const explorer = document.getElementById("explorer");
const dark = matchMedia("(prefers-color-scheme: dark)");

// The viewer's colours are attributes; it reads no variables of the page.
const COLOURS = {
  "bg-color": "--card", "text-color": "--text", "header-color": "--text", "primary-color": "--accent", "secondary-color": "--accent",
  "nav-bg-color": "--ground", "nav-text-color": "--quiet", "nav-hover-bg-color": "--tint", "nav-hover-text-color": "--text",
};

function paint() {
  const style = getComputedStyle(document.documentElement);
  for (const [attribute, token] of Object.entries(COLOURS)) explorer.setAttribute(attribute, style.getPropertyValue(token).trim());
  explorer.requestUpdate();
}

async function load() {
  const url = new URL("openapi.json", document.baseURI);
  const description = await (await fetch(url)).json();
  // The viewer takes a relative address of a server as one of the origin: behind a path of another proxy that is wrong.
  for (const server of description.servers) server.url = new URL(server.url, url).href.replace(/\/$/, "");
  await explorer.loadSpec(description);
  if (key.get()) await explorer.setAuthenticationConfiguration("bearer", { token: key.get() });
}

customElements.whenDefined("openapi-explorer").then(() => {
  paint();
  explorer.shadowRoot.adoptedStyleSheets = [...explorer.shadowRoot.adoptedStyleSheets, inside()];
  new MutationObserver(() => name(explorer.shadowRoot)).observe(explorer.shadowRoot, { childList: true, subtree: true });
  dark.addEventListener("change", paint);
  return load();
});
