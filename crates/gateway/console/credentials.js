/**
 * The token comes in the fragment of a link, which no browser sends to a server, and leaves the address bar at once, so
 * that it is neither bookmarked nor shown on a shared screen. It stays in this tab's storage: another tab is another person.
 */

const KEY = "starling.token";

export function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(token);
  }
  return token ?? sessionStorage.getItem(KEY);
}

export const keepToken = (token) => sessionStorage.setItem(KEY, token);

export const forgetToken = () => sessionStorage.removeItem(KEY);

/** The claims, unverified, for showing; null for what is no token. */
export function readClaims(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0))));
  } catch {
    return null;
  }
}

export const linkFor = (token) => `${location.origin}/#${new URLSearchParams({ token })}`;
