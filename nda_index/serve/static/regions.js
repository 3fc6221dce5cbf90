/** The regions of a picture: a grid over it that can be pointed at, walked through with arrow keys, and lit. */

import { element } from "./dom.js";
import { stage as texts } from "./texts.js";

export const SIDE = 8; // regions along each side, as in the server's links
const VEIL = 0.8; // opacity over a region that has no part in what is shown
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Regions {
  /**
   * @param {Element} overlay lies on the picture
   * @param {(cell: number|null, how: {keyboard: boolean}) => void} onCell a region is pointed at or focused; null: none
   */
  constructor(overlay, onCell) {
    Object.assign(this, { overlay, onCell, pinned: false, marked: null });
    this.cells = Array.from({ length: SIDE * SIDE }, (_, cell) =>
      element("span", { class: "region", "data-cell": cell }),
    );
    overlay.replaceChildren(...this.cells);
    overlay.addEventListener("pointerover", (event) => this.point(cellOf(event)));
    overlay.addEventListener("pointerleave", () => this.point(null));
  }

  /** Makes the regions a grid for the keyboard, in which a region can also be held. */
  offerKeyboard(label) {
    this.overlay.setAttribute("role", "grid");
    this.overlay.setAttribute("aria-label", label);
    for (let row = 0; row < SIDE; row += 1) {
      const own = this.cells.slice(row * SIDE, (row + 1) * SIDE);
      own.forEach((cell, column) => {
        cell.setAttribute("role", "gridcell");
        cell.setAttribute("aria-label", texts.region(row + 1, column + 1));
        cell.tabIndex = row + column === 0 ? 0 : -1;
      });
      this.overlay.append(element("div", { role: "row", class: "region-row" }, ...own));
    }
    this.overlay.addEventListener("click", (event) => this.hold(cellOf(event)));
    this.overlay.addEventListener("focusin", (event) => this.focus(cellOf(event)));
    this.overlay.addEventListener("focusout", (event) => this.leave(event));
    this.overlay.addEventListener("keydown", (event) => this.press(event));
  }

  /** Lights regions by their weights, relative to `highest`; without weights the picture is as it was. */
  light(weights, highest) {
    this.overlay.classList.toggle("lit", weights !== null);
    this.cells.forEach((cell, number) => {
      const brightness = weights && highest > 0 ? Math.sqrt(Math.min(weights[number] / highest, 1)) : 0;
      cell.style.setProperty("--veil", weights ? VEIL * (1 - brightness) : 0);
    });
  }

  /** Frames one region. */
  mark(cell) {
    if (this.marked !== null) this.cells[this.marked].classList.remove("marked");
    if (cell !== null) this.cells[cell].classList.add("marked");
    this.marked = cell;
  }

  release() {
    this.pinned = false;
    this.overlay.classList.remove("held");
  }

  point(cell) {
    if (!this.pinned) this.onCell(cell, { keyboard: false });
  }

  /** Keeps a region lit, after a click or Enter, until the next one. */
  hold(cell) {
    const again = this.pinned && cell === this.marked;
    this.pinned = cell !== null && !again;
    this.overlay.classList.toggle("held", this.pinned);
    this.onCell(again ? null : cell, { keyboard: false });
  }

  focus(cell) {
    // A click focuses too, and is handled by `hold`.
    if (cell !== null && !this.pinned && this.cells[cell].matches(":focus-visible"))
      this.onCell(cell, { keyboard: true });
  }

  leave(event) {
    if (!this.overlay.contains(event.relatedTarget) && !this.pinned) this.onCell(null, { keyboard: false });
  }

  press(event) {
    const cell = cellOf(event);
    if (event.key === "Escape") {
      this.release();
      this.onCell(null, { keyboard: true });
    } else if (event.key === "Enter" || event.key === " ") {
      this.hold(cell);
    } else if (event.key in STEPS) {
      const [down, right] = STEPS[event.key];
      const row = clamp(Math.floor(cell / SIDE) + down);
      this.move(row * SIDE + clamp((cell % SIDE) + right));
    } else if (event.key === "Home" || event.key === "End") {
      this.move(event.key === "Home" ? 0 : SIDE * SIDE - 1);
    } else {
      return;
    }
    event.preventDefault();
  }

  move(cell) {
    this.release();
    for (const other of this.cells) other.tabIndex = -1;
    this.cells[cell].tabIndex = 0;
    this.cells[cell].focus();
  }
}

function cellOf(event) {
  const cell = event.target.closest?.(".region");
  return cell ? Number(cell.dataset.cell) : null;
}

const clamp = (place) => Math.min(Math.max(place, 0), SIDE - 1);
