/** Asks a person for the access token of a protected server. */

import { byId } from "./dom.js";

/**
 * @param {boolean} refused whether the server has refused a token
 * @returns {Promise<string>}
 */
export function askToken(refused) {
  const dialog = byId("token-dialog");
  const field = byId("token");
  byId("token-words").textContent = refused
    ? "The server does not accept this token. Check it and try again."
    : "Give the token that you were sent by the person who runs this server.";
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
