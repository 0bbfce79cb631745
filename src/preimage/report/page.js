"use strict";
// A click on a picture opens it large; arrows go on, Escape (the dialog's own) or a click closes.
const dialog = document.querySelector("dialog");
const large = dialog.querySelector("img");
const caption = dialog.querySelector("span");
const pictures = [...document.querySelectorAll("figure button")];
let at = 0;

function show(index) {
  at = (index + pictures.length) % pictures.length;
  const image = pictures[at].querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  caption.textContent = `${image.alt}, ${pictures[at].dataset.says}`;
  if (!dialog.open) dialog.showModal();
}

pictures.forEach((button, index) => button.addEventListener("click", () => show(index)));
large.addEventListener("click", () => dialog.close());
dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") show(at + 1);
  if (event.key === "ArrowLeft") show(at - 1);
});
