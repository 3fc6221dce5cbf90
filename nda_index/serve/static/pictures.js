/** Pictures of the server in the page. */

const PIXELATED_UNDER = 128; // pixels of the shorter side: enlarged smoothly, such pictures would show invented detail

/** Shows a picture of the server in an image element. */
export async function show(api, image, path) {
  image.dataset.path = path;
  if (!api.token) {
    image.src = path;
    return;
  }
  // An image element cannot send the token.
  const blob = await api.blob(path).catch(() => new Blob()); // shown as a broken picture, with its words
  if (image.dataset.path === path) showBlob(image, blob); // unless another was asked for meanwhile
}

/** Shows a picture that the page holds. */
export function showBlob(image, blob) {
  const url = URL.createObjectURL(blob);
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  image.addEventListener("error", () => URL.revokeObjectURL(url), { once: true });
  image.src = url;
}

/** Enlarges an image element's pictures as suits their size, once each has loaded. */
export function enlarge(image) {
  image.addEventListener("load", () => {
    const side = Math.min(image.naturalWidth, image.naturalHeight);
    image.classList.toggle("pixelated", side < PIXELATED_UNDER);
  });
}
