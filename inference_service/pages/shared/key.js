// The API key of this tab. The console keeps its own key apart, because it may have a password in place of one; until
// a key is given here, the console's is tried.
const OWN = "fleet-api-key";
const CONSOLE = "fleet-console-key";

export const key = {
  get: () => sessionStorage.getItem(OWN) ?? sessionStorage.getItem(CONSOLE),
  set: (value) => sessionStorage.setItem(OWN, value),
  /** The key was refused: the next one is asked for. */
  forget: () => sessionStorage.setItem(OWN, ""),
};
