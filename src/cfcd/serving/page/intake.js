// Pictures that people give: dropped, pasted, chosen or taken.

import { $ } from "./dom.js";

const HEIC = /\.(heic|heif|avif|jxl|jp2|tiff?)$/i; // browsers that cannot show these give them no type

const isPicture = (file) => file.type.startsWith("image/") || HEIC.test(file.name);

/**
 * Watch every way in.
 *
 * @param {{take: (files: File[], add: boolean) => void, refuse: (words: string) => void, asked: () => boolean}} page
 *   `take` gets at least one picture; `asked` tells whether there is a query that pictures could be added to
 */
export function watchIntake(page) {
  const offer = (list, add) => {
    const files = [...list];
    const pictures = files.filter(isPicture);
    if (pictures.length) page.take(pictures, add);
    else page.refuse(files.length ? `${files[0].name || "That file"} is not a picture.` : "That was no picture file.");
  };

  for (const [id, add] of [["pick", false], ["camera", false], ["camera-again", true]]) watchInput($(id), add, offer);

  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    // Text pasted into a field is the field's own.
    if (files.length) {
      event.preventDefault();
      offer(files, false);
    }
  });
  watchDrops(page, offer);
}

export function watchInput(input, add, offer) {
  input.addEventListener("change", () => {
    if (input.files.length) offer(input.files, add);
    input.value = ""; // so that choosing the same file again is a change
  });
}

function watchDrops(page, offer) {
  const veil = $("drop");
  const [, adding] = veil.children;
  let depth = 0;
  const show = (shown) => {
    if (!shown) depth = 0;
    veil.hidden = !shown;
    adding.hidden = !page.asked();
    veil.querySelector(".over")?.classList.remove("over");
  };
  // What is dragged within the page is no file.
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth += 1;
    if (depth === 1) show(true);
  });
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    for (const zone of veil.children) zone.classList.toggle("over", zone.contains(event.target));
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth -= 1;
    if (depth <= 0) show(false);
  });
  addEventListener("drop", (event) => {
    event.preventDefault(); // or the browser would leave the page for the file
    const add = event.target instanceof Element && event.target.closest("[data-drop]")?.dataset.drop === "add";
    show(false);
    offer(event.dataTransfer?.files ?? [], add && page.asked());
  });
}
