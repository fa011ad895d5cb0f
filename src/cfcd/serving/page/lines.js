// Lines between places of two pictures that are each other's most alike.

import { fitted } from "./heat.js";

export const MOST_LINES = 30;

// Okabe and Ito's colours, told apart by colour-blind people too; their black is lost on photos.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];
const BOW = 22; // pixels; straight lines between pictures side by side would hide each other

/**
 * Draw the lines over both pictures.
 *
 * @param {HTMLCanvasElement} canvas lies over both
 * @param {HTMLElement[]} frames the pictures of query and hit
 * @param {{query: object, hit: object, lines: {query: number[], hit: number[], distinct: boolean}[]}} found in pixels
 *   of the upright pictures
 */
export function paintLines(canvas, frames, { query, hit, lines }) {
  const page = canvas.getBoundingClientRect();
  const context = fitted(canvas, page.width, page.height);
  const bounds = frames.map((frame) => frame.getBoundingClientRect());
  const sides = [query, hit];
  const at = (point, i) => [
    bounds[i].left - page.left + (point[0] / sides[i].width) * bounds[i].width,
    bounds[i].top - page.top + (point[1] / sides[i].height) * bounds[i].height,
  ];
  const stacked = bounds[1].top >= bounds[0].bottom;
  const order = (one) => (stacked ? one.start[0] * 1e5 + one.start[1] : one.start[1] * 1e5 + one.start[0]);
  const drawn = lines.slice(0, MOST_LINES)
    .map((line) => ({ start: at(line.query, 0), stop: at(line.hit, 1), size: line.distinct ? 1 : 0.65 }))
    .sort((one, other) => order(one) - order(other))
    // Neighbouring lines differ in colour, and bend differently.
    .map((line, i) => ({ ...line, colour: COLOURS[i % COLOURS.length], bow: (BOW * ((i % 5) - 2)) / 2 }))
    .sort((one, other) => one.size - other.size); // bold ones over the others
  for (const line of drawn) stroke(context, line, stacked);
  for (const line of drawn) for (const end of [line.start, line.stop]) dot(context, end, line);
}

function stroke(context, { start, stop, size, colour, bow }, stacked) {
  const path = new Path2D();
  const [x, y] = [(start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2];
  path.moveTo(...start);
  path.quadraticCurveTo(x + (stacked ? 2 * bow : 0), y + (stacked ? 0 : 2 * bow), ...stop);
  // The translucent rim keeps a line apart from the photo and from lines it crosses.
  for (const [paint, thick] of [["rgb(255 255 255 / 0.6)", 4.4], [colour, 2.2]]) {
    context.strokeStyle = paint;
    context.lineWidth = thick * size;
    context.stroke(path);
  }
}

function dot(context, [x, y], { size, colour }) {
  for (const [radius, paint] of [[6.5, "#fff"], [4.8, colour]]) {
    context.beginPath();
    context.arc(x, y, radius * size, 0, 2 * Math.PI);
    context.fillStyle = paint;
    context.fill();
  }
}
