/** Why a view shows nothing, or nothing new. */
import { element } from "./element.js";
import { clockTime } from "./time.js";

/** A place for such a notice. */
export const noticePlace = () => element("p", { class: "notice", role: "status" });

/**
 * Explains why the view could not be loaded. `what` begins the sentence ("The queues"), `scopes` are the scopes of which one is needed, `loadedAt` is when
 * what is shown was loaded, or null.
 */
export function explain(place, error, { what, scopes, user, loadedAt }) {
  if (error.status === 403) {
    const named = scopes.flatMap((scope, index) => [index > 0 && " or ", element("code", {}, scope)]).filter(Boolean);
    const example = element("code", {}, `starling token --user ${user ?? "alice"} --scope "${scopes[0]}"`);
    place.replaceChildren(`${what} are for operators: this needs a token with the scope `, ...named, ". Make one with ", example, " and open the page with it.");
  } else if (error.status === 401) place.replaceChildren("The token is not valid any more. Open the page with a new one.");
  else if (error.status >= 400 && error.status < 500) place.replaceChildren(`The node refused this: ${error.message}.`);
  else {
    const since = loadedAt ? ` What you see is from ${clockTime(loadedAt)}.` : "";
    place.replaceChildren(`The nodes do not respond right now. Trying again.${since}`);
  }
}

/** Clears a notice without disturbing those who listen to it. */
export function clear(place) {
  if (place.hasChildNodes()) place.replaceChildren();
}
