/** Pictures from the server, on the page. */

const PIXELATED_UNDER = 128; // pixels of the shorter side: enlarged smoothly, such pictures would show invented detail

/** Shows a picture from the server in an image element, of HTML or of a drawing. */
export async function show(api, image, path) {
  image.dataset.path = path;
  if (!api.token) {
    setAddress(image, path);
    return;
  }
  // An image element cannot send the token.
  const blob = await api.blob(path).catch(() => new Blob()); // shown as a broken picture, with its alternative text
  if (image.dataset.path === path) showBlob(image, blob); // unless the element shows another by now
}

/** Shows a picture that the page holds. */
export function showBlob(image, blob) {
  const url = URL.createObjectURL(blob);
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  image.addEventListener("error", () => URL.revokeObjectURL(url), { once: true });
  setAddress(image, url);
}

function setAddress(image, url) {
  image.setAttribute(image instanceof SVGImageElement ? "href" : "src", url);
}

/** Chooses how an image element enlarges its pictures by their size, once each has loaded. */
export function enlarge(image) {
  image.addEventListener("load", () => {
    const side = Math.min(image.naturalWidth, image.naturalHeight);
    image.classList.toggle("pixelated", side < PIXELATED_UNDER);
  });
}
