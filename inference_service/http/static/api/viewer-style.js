// What this page changes inside the viewer's shadow: the fleet's shapes and lines, and names for the fields of forms.
const RULES = `
  :host {
    --border-radius: 8px; --font-size-small: 14px; --font-size-regular: 16px; --font-size-mono: 14px; font-family: inherit;
    --border-color: var(--line); --light-border-color: var(--line); --bg2: var(--ground); --bg3: var(--ground);
    --inline-code-fg: var(--text); --code-fg: var(--quiet); --input-bg: var(--card); --placeholder-color: var(--quiet);
    --light-fg: var(--quiet); --fg2: var(--text); --fg3: var(--quiet); --secondary-color: var(--accent);
    --code-property-color: var(--accent); --code-keyword-color: var(--purple); --code-operator-color: var(--quiet);
  }
  .nav-bar { border-right: 1px solid var(--line); }
  .nav-bar.focused, .nav-scroll { border-top: 0; }
  .nav-bar-section { border-bottom: 0; padding-left: 14px; letter-spacing: 0.03em; }
  .nav-bar-tag { color: var(--text); }
  :focus-visible { outline: 3px solid var(--accent) !important; outline-offset: -3px; }
  input:not([type=radio], [type=checkbox]), select, textarea { border: 1px solid var(--edge) !important; }
  .main-content-inner { max-width: 1080px; }
  @media (max-width: 767.98px) {
    .request-form-table, .m-table { display: block; }
    .request-form-table tr, .m-table tr { display: grid; grid-template-columns: minmax(0, 1fr); padding: 4px 8px; }
    .request-form-table td, .m-table td { display: block; width: auto !important; border: 0 !important; text-align: left !important; }
    .request-form-table td:empty { display: none; }
    .param-name, .param-type { text-align: left !important; }
  }
`;

/** The stylesheet for the viewer's shadow root; the page's tokens reach it, because variables inherit. */
export function inside() {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(RULES);
  return sheet;
}

/** Give each field of a form its name; the viewer leaves the name beside it. */
export function name(root) {
  for (const field of root.querySelectorAll("input[data-pname]:not([aria-label])")) field.setAttribute("aria-label", field.dataset.pname);
}
