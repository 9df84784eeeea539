/**
 * Builds an element. Text from users always becomes a text node: no code in the console parses HTML.
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  apply(node, properties, children);
  return node;
}

/** Builds an SVG element. */
export function shape(tag, properties = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  apply(node, properties, children);
  return node;
}

/** Returns the element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** Announces a text to screen readers. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Opens a dialog with an empty form and no error. Buttons with `data-close` close it. */
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
