// What is served: the name in the head, and the dialog that says more.

import { $, fill, shutBeside } from "./dom.js";
import { count, number, score } from "./words.js";

/** Show what GET /v1/gallery said. */
export function introduce(gallery) {
  document.title = `${gallery.name} · cfcd`;
  $("name").textContent = gallery.name;
  $("count").textContent = gallery.random_weights ? "the model is untrained: what it finds means nothing" : count(gallery.items, "picture");
  $("count").classList.toggle("warn", gallery.random_weights);
  const { calibration } = gallery;
  fill($("about-facts"), [
    ["Name", gallery.name],
    ["Pictures", number(gallery.items)],
    ["Model", gallery.model],
    ["Descriptor", `${number(gallery.dim)} numbers`],
    ["Index", gallery.index.kind],
    ["Calibration", calibration
      ? `match from ${score(calibration.match)} on, maybe from ${score(calibration.maybe)} on`
      : "none: cfcd calibrate makes one"],
  ]);
}

$("show-about").addEventListener("click", () => $("about").showModal());
$("shut-about").addEventListener("click", () => $("about").close());
shutBeside($("about"), () => $("about").close());
