/** Asks a person for the access token of a protected server. */

import { byId } from "./dom.js";
import { token as texts } from "./texts.js";

/**
 * @param {boolean} refused whether the server has refused a token
 * @returns {Promise<string>}
 */
export function askToken(refused) {
  const dialog = byId("token-dialog");
  const field = byId("token");
  byId("token-words").textContent = refused ? texts.refused : texts.give;
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const done = () => {
      // Escape closes the dialog too, but there is nothing to show without a token.
      if (field.value === "") dialog.showModal();
      else {
        dialog.removeEventListener("close", done);
        resolve(field.value.trim());
      }
    };
    dialog.addEventListener("close", done);
  });
}
