"use strict";
// The strips of a section as a film: played, stopped, and moved through by hand. Without this, each shows its last sample.
for (const section of document.querySelectorAll("section.chains")) {
  const steps = JSON.parse(section.dataset.steps);
  const player = section.querySelector(".player");
  const button = player.querySelector("button"), slider = player.querySelector("input"), said = player.querySelector("output");
  const films = section.querySelectorAll(".film");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const last = steps.length - 1, rest = 6; // so many beats the film stands at its end
  let at = last, beat = 0, timer = null, seen = true;

  function show(index) {
    at = Math.min(Math.max(index, 0), last);
    section.style.setProperty("--at", at);
    slider.value = at;
    slider.setAttribute("aria-valuetext", `step ${steps[at]}`);
    said.textContent = `step ${steps[at]}`;
    for (const film of films) {
      const walk = film.parentElement, wide = film.offsetWidth / steps.length;
      if (at * wide < walk.scrollLeft || (at + 1) * wide > walk.scrollLeft + walk.clientWidth) {
        walk.scrollLeft = (at + 0.5) * wide - walk.clientWidth / 2;
      }
    }
  }

  function play(wanted) {
    clearInterval(timer);
    timer = wanted ? setInterval(() => {
      if (!seen) return;
      beat = at === last ? beat + 1 : 0;
      if (at < last || beat >= rest) show(at < last ? at + 1 : 0);
    }, 170) : null;
    button.textContent = wanted ? "Pause" : "Play";
  }

  button.addEventListener("click", () => play(timer === null));
  slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
  for (const film of films) {
    film.addEventListener("click", (event) => {
      const box = film.getBoundingClientRect();
      play(false);
      show(Math.floor((event.clientX - box.left) / box.width * steps.length));
    });
  }
  calm.addEventListener("change", () => { if (calm.matches) play(false); });
  addEventListener("resize", () => show(at));
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; }).observe(section);
  show(last);
  if (last > 0) {
    player.hidden = false;
    play(!calm.matches);
  }
}
