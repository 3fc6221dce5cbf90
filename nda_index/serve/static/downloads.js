/** Files that the server makes, as links. */

import { element } from "./dom.js";

/**
 * A link to a file. If there is a token, the file is fetched first, since a link cannot send it.
 *
 * @param {Api} api
 * @param {string} href
 * @param {string} file its name on the person's disk
 * @param {string} words
 * @param {(error: Error) => void} onError
 */
export function fileLink(api, href, file, words, onError) {
  const fetchFirst = async (event) => {
    if (!api.token) return;
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await api.blob(href));
      element("a", { href: url, download: file }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser may read it a while after the click
    } catch (error) {
      onError(error);
    }
  };
  return element("a", { href, download: file, onclick: fetchFirst }, words);
}
