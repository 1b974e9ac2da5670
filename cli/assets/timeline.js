"use strict";
// Drawing one query over time. Texts are only ever set as text, never read as markup.

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const element = attributes.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg" || value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const shape = (tag, attributes) => make(tag, { svg: true, ...attributes });

// Times are counted in tenths, so that 59.96 reads 1:00.0 and not 0:60.0.
function clock(seconds, tenths = true) {
  const all = tenths ? Math.round(seconds * 10) : Math.floor(seconds) * 10;
  const whole = Math.floor(all / 10);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const start = hours ? `${hours}:${two(minutes)}` : `${minutes}`;
  return `${start}:${two(whole % 60)}${tenths ? `.${all % 10}` : ""}`;
}

const span = ([start, end]) => `${clock(start)} – ${clock(end)}`;

function iou([start, end], truth) {
  let best = 0;
  for (const [from, to] of truth) {
    const shared = Math.max(0, Math.min(end, to) - Math.max(start, from));
    if (shared > 0) best = Math.max(best, shared / (end - start + to - from - shared));
  }
  return best;
}

// The curve as SVG paths in a box of 1000 × height; scores hold for whole slots, so it runs level
// to both ends of the video.
function curvePaths(curve, seconds, height) {
  const { steps } = curve;
  const x = (place) => ((place + 0.5) / steps.length) * (curve.seconds / seconds) * 1000;
  const y = (step) => (height * (1 - step / 255)).toFixed(2);
  const last = steps.length - 1;
  const points = steps.map((step, place) => `${Math.min(1000, x(place)).toFixed(1)} ${y(step)}`);
  const edge = `M0 ${y(steps[0])} L${points.join(" ")} L1000 ${y(steps[last])}`;
  return { edge, area: `${edge} L1000 ${height} L0 ${height}Z` };
}

function bar([start, end], seconds, attributes) {
  return shape("rect", {
    x: (start / seconds) * 1000,
    width: Math.max(3, ((end - start) / seconds) * 1000),
    ...attributes,
  });
}

// The row's picture: the curve above, then annotated and found moments, each on its own line.
function miniature(query, seconds) {
  const picture = shape("svg", {
    class: "mini", viewBox: "0 0 1000 42", preserveAspectRatio: "none", role: "img",
    "aria-label": describe(query),
  });
  const paths = curvePaths(query.curve, seconds, 20);
  picture.append(
    shape("path", { class: "area", d: paths.area }), shape("path", { class: "edge", d: paths.edge }),
    shape("rect", { class: "base", x: 0, width: 1000, y: 38, height: 0.6 }),
  );
  for (const moment of query.truth) {
    picture.append(bar(moment, seconds, { class: "truth", y: 23, height: 6.5 }));
  }
  query.moments.slice(0, 1).forEach((moment) => {
    picture.append(bar(moment, seconds, { class: "found", y: 33.5, height: 8 }));
  });
  return picture;
}

function describe(query) {
  const found = query.moments.length ? `Best found moment ${span(query.moments[0])}.` : "";
  const truth = query.truth.length ? ` Annotated ${query.truth.map(span).join(", ")}.` : "";
  return found + truth;
}

// The steps that people count time in, for at most `most` labels.
function tickStep(seconds, most) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  return steps.find((step) => seconds <= most * step) || 3600 * Math.ceil(seconds / (most * 3600));
}

function lane(kind, name, track, meta = "") {
  const title = make("div", { class: "name" });
  title.append(name);
  return make("div", { class: `lane ${kind}` }, title, track, make("div", { class: "meta", text: meta }));
}

// Moments on one track, each a button that plays it where a video is known.
function momentLane(moments, kind, name, meta, seconds, seek) {
  const track = make("div", { class: "track" });
  for (const moment of moments) {
    const button = make("button", {
      type: "button", class: kind, disabled: !seek,
      "aria-label": `${name.textContent}, ${span(moment)}`,
      title: seek ? `play from ${clock(moment[0])}` : span(moment),
    });
    button.style.left = `${(moment[0] / seconds) * 100}%`;
    button.style.width = `${((moment[1] - moment[0]) / seconds) * 100}%`;
    if (seek) {
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        seek(moment[0]);
      });
    }
    track.append(button);
  }
  return lane("moment", name, track, meta);
}

function saliencyLane(query, seconds) {
  const picture = shape("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const moment of query.truth) {
    picture.append(bar(moment, seconds, { class: "within", y: 0, height: 100 }));
  }
  const paths = curvePaths(query.curve, seconds, 96);
  const shown = shape("g", { transform: "translate(0 3)" });
  shown.append(shape("path", { class: "area", d: paths.area }), shape("path", { class: "edge", d: paths.edge }));
  picture.append(shown);
  const { low, high } = query.curve;
  return lane("", "saliency", make("div", { class: "track saliency" }, picture), `${low} to ${high}`.replaceAll("-", "−"));
}

function axisLane(seconds, width) {
  const most = Math.max(2, Math.min(10, Math.floor(width / 75)));
  const step = tickStep(seconds, most);
  const times = [];
  for (let at = 0; at < seconds * (1 - 0.6 / most) || at === 0; at += step) times.push(at);
  const track = make("div", { class: "track axis" });
  for (const at of [...times, seconds]) {
    const label = make("span", { text: clock(at, at === seconds) });
    label.style.left = `${(at / seconds) * 100}%`;
    track.append(label);
  }
  return lane("", "", track);
}

// Everything about one query; `video` has its length and, if known, pictures and a source.
function timeline(query, video, width) {
  const { seconds } = video;
  const plot = make("div", { class: "plot" });
  const player = video.source ? makePlayer(video.source, plot, seconds) : null;
  const seek = player && player.seek;
  if (seek) plot.classList.add("plays");
  if (video.strip) {
    const picture = make("img", { src: video.strip, alt: "Pictures from the video, evenly spaced", decoding: "async" });
    plot.append(lane("", "", make("div", { class: "track strip" }, picture)));
  }
  plot.append(saliencyLane(query, seconds));
  if (query.truth.length) {
    const name = make("span", { text: "annotated" });
    const meta = query.truth.length > 1 ? `${query.truth.length} moments` : span(query.truth[0]);
    plot.append(momentLane(query.truth, "truth", name, meta, seconds, seek));
  }
  query.moments.slice(0, 5).forEach((moment, place) => {
    const name = make("span", {}, make("b", { text: `found ${place + 1}` }), ` ${moment[2].toFixed(2)}`);
    const fit = query.truth.length ? `  IoU ${iou(moment, query.truth).toFixed(2)}` : "";
    const shown = momentLane([moment], "found", name, span(moment) + fit, seconds, seek);
    if (place) shown.classList.add("later");
    plot.append(shown);
  });
  plot.append(axisLane(seconds, width));
  if (player) plot.append(player.element);
  follow(plot, seconds, seek);
  return plot;
}

// A line over all tracks shows where the pointer is, or where the video plays.
function follow(plot, seconds, seek) {
  const secondsAt = (event) => {
    const track = event.target.closest && event.target.closest(".track");
    if (!track) return null;
    const box = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * seconds;
  };
  plot.addEventListener("pointermove", (event) => {
    const at = secondsAt(event);
    if (at !== null) point(plot, at, seconds);
  });
  plot.addEventListener("click", (event) => {
    const at = secondsAt(event);
    if (at !== null && seek) seek(at);
  });
}

function point(plot, at, seconds) {
  plot.classList.add("pointed");
  plot.style.setProperty("--at", `${(at / seconds) * 100}%`);
}

// The video is asked for only once somebody wants to see it.
function makePlayer(source, plot, seconds) {
  const message = make("p", { text: "Click anywhere on the timeline to play from there." });
  const element = make("div", { class: "player" }, message);
  let video = null;
  const seek = (at) => {
    if (!video) {
      video = make("video", { controls: true, playsinline: true, preload: "auto" });
      video.addEventListener("timeupdate", () => point(plot, video.currentTime, seconds));
      video.addEventListener("error", () => {
        message.textContent = `This browser cannot play ${decodeURI(source)}: is it still there, and in a format it knows?`;
      });
      video.src = source;
      element.prepend(video);
    }
    video.currentTime = at;
    point(plot, at, seconds);
    video.play().catch(() => {}); // refused without a gesture, or told by the error event
  };
  return { element, seek };
}
