// Shares of a score as colours over a picture: as cfcd.explaining draws them.

// Ever lighter, from black over violet and orange to pale yellow: the order shows without telling hues apart.
// Sampled from matplotlib's "inferno" (CC0), which is perceptually even.
const STOPS = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];
const OPAQUE = 0.72; // of the colour, where a share is greatest
const FINE = 160; // cells across the interpolated map; the browser smooths between them

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function ramp(value) {
  const at = clamp(value, 0, 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((from, i) => from + (at - low) * (STOPS[low + 1][i] - from));
}

/** Read a grid between its cells' centres. */
function between(shares, x, y) {
  const column = clamp(x * shares[0].length - 0.5, 0, shares[0].length - 1);
  const row = clamp(y * shares.length - 0.5, 0, shares.length - 1);
  const [left, upper] = [Math.floor(column), Math.floor(row)];
  const [right, lower] = [Math.min(left + 1, shares[0].length - 1), Math.min(upper + 1, shares.length - 1)];
  const mix = (a, b, part) => a + part * (b - a);
  return mix(
    mix(shares[upper][left], shares[upper][right], column - left),
    mix(shares[lower][left], shares[lower][right], column - left),
    row - upper,
  );
}

/** Make a small picture of the shares; the greatest of both sides gets the colour of the score. */
function map(shares, score, most) {
  const [width, height] = [FINE, Math.max(1, Math.round((FINE * shares.length) / shares[0].length))];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 4) {
      const value = clamp(between(shares, (x + 0.5) / width, (y + 0.5) / height) / most, 0, 1) * clamp(score, 0, 1);
      const [red, green, blue] = ramp(value);
      pixels.data.set([red, green, blue, 255 * OPAQUE * Math.sqrt(value)], i);
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Size a canvas to what it lies over, in the pixels of the screen; gives its context in CSS pixels. */
export function fitted(canvas, width, height) {
  const dense = devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const context = canvas.getContext("2d");
  context.setTransform(dense, 0, 0, dense, 0, 0);
  return context;
}

function edges(marked, step) {
  const path = new Path2D();
  const is = (row, column) => Boolean(marked[row]?.[column]);
  for (let row = 0; row <= marked.length; row += 1) {
    for (let column = 0; column <= marked[0].length; column += 1) {
      if (is(row, column) !== is(row, column - 1)) {
        path.moveTo(column * step[0], row * step[1]);
        path.lineTo(column * step[0], (row + 1) * step[1]);
      }
      if (is(row, column) !== is(row - 1, column)) {
        path.moveTo(column * step[0], row * step[1]);
        path.lineTo((column + 1) * step[0], row * step[1]);
      }
    }
  }
  return path;
}

/**
 * Draw one side of an explanation over its picture.
 *
 * @param {HTMLCanvasElement} canvas lies over the image
 * @param {{width: number, height: number, box: number[], shares: number[][]}} side pixels of the upright picture
 * @param {{heat: boolean, marked: boolean[][]|null, score: number, most: number}} how `most` is the greatest share
 */
export function paint(canvas, side, { heat, marked, score, most }) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = fitted(canvas, width, height);
  const [across, down] = [width / side.width, height / side.height];
  const [x1, y1, x2, y2] = side.box;
  const [left, upper, inner, tall] = [x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down];
  const outside = new Path2D();
  outside.rect(0, 0, width, height);
  outside.rect(left, upper, inner, tall);
  context.fillStyle = "rgb(0 0 0 / 0.7)";
  context.fill(outside, "evenodd"); // what lies outside a box had no part in it
  if (!heat) return;
  context.imageSmoothingQuality = "high";
  context.drawImage(map(side.shares, score, most), left, upper, inner, tall);
  if (!marked) return;
  context.translate(left, upper);
  const outline = edges(marked, [inner / marked[0].length, tall / marked.length]);
  context.lineCap = "square";
  // Black around white shows on any photo.
  for (const [colour, thick] of [["rgb(0 0 0 / 0.6)", 4], ["#fff", 1.8]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.stroke(outline);
  }
}

/** Draw the scale of colours. */
export function paintRamp(canvas) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    context.fillStyle = `rgb(${ramp(x / (canvas.width - 1)).map(Math.round).join(" ")})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
}
