// Draws the answers of `r2t serve` with the timeline that the report has too; one player, the
// page's own, plays the moments of all of them.
(() => {
  const film = () => document.querySelector("#r2t-video video");
  const player = {
    seek(at) {
      const video = film();
      if (!video) return;
      video.currentTime = at;
      video.play().catch(() => {});
    },
  };

  const clipButton = (answer) => (place) => make("button", {
    type: "button", class: "action", text: "clip", "data-r2t-clip": `${answer} ${place}`,
    "aria-label": `download found moment ${place + 1} as a clip`,
  });

  function draw() {
    for (const place of document.querySelectorAll(".r2t-timeline:empty")) {
      const query = JSON.parse(place.dataset.r2tQuery);
      const options = { player, action: clipButton(place.dataset.r2tAnswer) };
      const width = matchMedia("(max-width: 46rem)").matches ? place.clientWidth : place.clientWidth - 360;
      place.append(timeline(query, { seconds: Number(place.dataset.r2tSeconds) }, width, options));
    }
  }
  new MutationObserver(draw).observe(document, { childList: true, subtree: true });

  // Media events do not bubble, so they are caught on their way down.
  for (const name of ["timeupdate", "seeking", "seeked"]) {
    document.addEventListener(name, (event) => {
      if (event.target !== film()) return;
      for (const place of document.querySelectorAll(".r2t-timeline")) {
        point(place.firstChild, event.target.currentTime, Number(place.dataset.r2tSeconds));
      }
    }, true);
  }
})();
