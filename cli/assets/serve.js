(() => {
  const video = () => document.querySelector("#r2t-video video");
  const seek = (seconds, play) => {
    const film = video();
    if (!film) return;
    film.currentTime = seconds;
    if (play) film.play().catch(() => {});
  };
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const moment = event.target.closest("[data-r2t-start]");
    if (moment) {
      seek(Number(moment.dataset.r2tStart), true);
      return;
    }
    const line = event.target.closest(".r2t-line");
    if (line) {
      const box = line.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * Number(line.dataset.r2tDuration), false);
    }
  });
  // Media events do not bubble, so they are caught on their way down.
  for (const name of ["timeupdate", "seeking", "seeked"]) {
    document.addEventListener(name, (event) => {
      if (event.target !== video()) return;
      for (const head of document.querySelectorAll(".r2t-playhead")) {
        const duration = Number(head.parentElement.dataset.r2tDuration);
        head.style.left = `${Math.min(100, (100 * event.target.currentTime) / duration)}%`;
      }
    }, true);
  }
})();
