/** A part of the picture: dragged on its drawing, it becomes the region that the next question is about. */

import { byId } from "./dom.js";

const SMALLEST = 8; // pixels of a side: less is a click

/** Lets a person drag a box on a drawing whose coordinates are the picture's pixels; the text of #region follows. */
export function followDrags(drawing, frame, [width, height]) {
  let from = null;
  let part = null;
  const mark = (to) => {
    const box = [Math.min(from.x, to.x), Math.min(from.y, to.y), Math.max(from.x, to.x), Math.max(from.y, to.y)];
    const [left, top, right, bottom] = box.map(Math.round);
    part = [Math.max(left, 0), Math.max(top, 0), Math.min(right, width), Math.min(bottom, height)];
    showPart(frame, part);
  };
  drawing.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType === "touch") return; // a finger scrolls the page
    event.preventDefault();
    drawing.setPointerCapture(event.pointerId);
    from = placeOf(event, drawing);
  });
  drawing.addEventListener("pointermove", (event) => {
    if (from) mark(placeOf(event, drawing));
  });
  drawing.addEventListener("pointerup", (event) => {
    if (!from) return;
    mark(placeOf(event, drawing));
    from = null;
    const [left, top, right, bottom] = part;
    const wanted = right - left >= SMALLEST && bottom - top >= SMALLEST;
    if (!wanted) showPart(frame, null);
    const field = byId("region");
    field.value = wanted ? part.join(", ") : "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

/** Draws a part as a frame; hides the frame where there is none. */
export function showPart(frame, part) {
  frame.setAttribute("visibility", part ? "visible" : "hidden");
  if (!part) return;
  const [left, top, right, bottom] = part;
  for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top })) {
    frame.setAttribute(name, Math.max(value, 0));
  }
}

function placeOf(event, drawing) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
}
