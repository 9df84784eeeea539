/** Dialogs that ask before something happens. */
import { byId, openDialog } from "./element.js";

/** Asks, and calls `run` after a yes. `dismiss` is the other answer. */
export function confirm({ title, text, action, dismiss = "Cancel", run }) {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-do").textContent = action;
  byId("confirm-dismiss").textContent = dismiss;
  openForm(byId("confirm-dialog"), run);
}

/** Opens a dialog whose form calls `run`. If that fails, the dialog stays open and shows the error. */
export function openForm(dialog, run) {
  openDialog(dialog);
  const form = dialog.querySelector("form");
  const submit = form.querySelector('[type="submit"]');
  submit.disabled = false;
  form.onsubmit = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      await run();
      dialog.close();
    } catch (error) {
      dialog.querySelector(".error").textContent = error.message;
    } finally {
      submit.disabled = false;
    }
  };
}
