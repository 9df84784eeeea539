/**
 * Builds elements. Whatever a user wrote becomes a text node: nothing here, or anywhere in the console, parses HTML.
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  apply(node, properties, children);
  return node;
}

/** The same for SVG. */
export function shape(tag, properties = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  apply(node, properties, children);
  return node;
}

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** Says something to people who listen to the page. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Closes a dialog by its buttons with `data-close`, empties its form and its error when it opens. */
export function openDialog(dialog) {
  dialog.querySelector("form").reset();
  for (const error of dialog.querySelectorAll(".error")) error.textContent = "";
  for (const button of dialog.querySelectorAll("[data-close]")) button.onclick = () => dialog.close();
  dialog.showModal();
}

function apply(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
}
