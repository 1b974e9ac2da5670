// A player of its own for each timeline of the report. A video is asked for only once somebody wants
// to see it; one that is not where the page looks for it can be chosen by hand, once a page.
const chosen = new Map(); // file name → the file that was chosen for it

function makePlayer(source) {
  const name = decodeURIComponent(source.split("/").pop());
  const message = make("p", { role: "status", text: "Click anywhere on the timeline to play from there." });
  const element = make("div", { class: "player" }, message);
  let onTime = () => {};
  let video = null;
  let wanted = 0;

  function play() {
    video.currentTime = wanted;
    video.play().catch(() => {}); // refused without a gesture, or told by the error event
  }

  function ask() {
    const picker = make("input", { type: "file", accept: "video/*,.mkv", multiple: true, "aria-label": `choose ${name}` });
    picker.addEventListener("change", () => {
      for (const file of picker.files) chosen.set(file.name, file);
      if (picker.files.length === 1) chosen.set(name, picker.files[0]); // whatever it is called here
      if (chosen.has(name)) load();
    });
    message.replaceChildren(`This page does not find ${name}, or the browser does not know its format. Choose it: `, picker);
  }

  function load() {
    message.replaceChildren();
    video.src = chosen.has(name) ? URL.createObjectURL(chosen.get(name)) : source;
    play();
  }

  function seek(at) {
    wanted = at;
    if (video && !video.error) {
      play();
      return;
    }
    if (!video) {
      video = make("video", { controls: true, playsinline: true, preload: "auto" });
      video.addEventListener("timeupdate", () => onTime(video.currentTime));
      video.addEventListener("error", () => {
        if (source.includes("://")) message.textContent = `This browser cannot play ${source}: is it still there, and in a format it knows?`;
        else ask();
      });
      element.prepend(video);
    }
    load();
  }

  return { element, seek, onTime: (hear) => { onTime = hear; } };
}
