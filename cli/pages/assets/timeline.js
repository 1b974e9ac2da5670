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

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

// The times to label: multiples of the shortest step of which at most `most` make the video. It is
// the rule of `tick_seconds` in cli/plots.py.
function tickSeconds(seconds, most) {
  const step = STEPS.find((each) => seconds <= most * each) || 3600 * Math.ceil(seconds / (most * 3600));
  return Array.from({ length: Math.floor(seconds / step) + 1 }, (_, place) => place * step);
}

function lane(kind, name, track, ...meta) {
  return make("div", { class: `lane ${kind}` },
    make("div", { class: "name" }, name), track, make("div", { class: "meta" }, ...meta));
}

// A moment on its track: a button where it can be played, else a picture with a name.
function block(moment, kind, label, seconds, seek) {
  const words = `${label}, ${span(moment)}`;
  const shown = seek
    ? make("button", { type: "button", class: `block ${kind}`, "aria-label": `play ${words}`, title: `play from ${clock(moment[0])}` })
    : make("span", { role: "img", class: `block ${kind}`, "aria-label": words, title: span(moment) });
  shown.style.left = `${(moment[0] / seconds) * 100}%`;
  shown.style.width = `${((moment[1] - moment[0]) / seconds) * 100}%`;
  if (seek) {
    shown.addEventListener("click", (event) => {
      event.stopPropagation();
      seek(moment[0]);
    });
  }
  return shown;
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

// Where moments overlap, each is still seen whole: found ones have lanes of their own.
function foundLane(query, place, seconds, seek, action) {
  const moment = query.moments[place];
  const name = make("span", {}, make("b", { text: `found ${place + 1}` }), ` ${moment[2].toFixed(2)}`);
  const fit = query.truth.length ? `  IoU ${iou(moment, query.truth).toFixed(2)}` : "";
  const label = `found moment ${place + 1}, score ${moment[2].toFixed(2)}`;
  const track = make("div", { class: "track" }, block(moment, "found", label, seconds, seek));
  return lane("moment", name, track, make("span", { text: span(moment) + fit }), ...(action ? [action(place)] : []));
}

function truthLane(moments, seconds, seek) {
  const track = make("div", { class: "track" });
  track.append(...moments.map((moment) => block(moment, "truth", "annotated moment", seconds, seek)));
  return lane("moment", "annotated", track, moments.length > 1 ? `${moments.length} moments` : span(moments[0]));
}

function axisLane(seconds, width) {
  const track = make("div", { class: "track axis", "aria-hidden": "true" });
  for (const at of tickSeconds(seconds, Math.max(2, Math.min(10, Math.floor(width / 60))))) {
    const label = make("span", { text: clock(at, false), class: at > 0.97 * seconds && at ? "last" : null });
    label.style.left = `${(at / seconds) * 100}%`;
    track.append(label);
  }
  return lane("", "", track, `of ${clock(seconds)}`);
}

// Everything about one query. `video` has its length and, if known, a strip of pictures. With a
// `player` the moments can be played; `action` makes what stands beside each found one.
function timeline(query, video, width, { player = null, action = null } = {}) {
  const { seconds } = video;
  const seek = player && ((at) => {
    point(plot, at, seconds);
    player.seek(at);
  });
  const plot = make("div", { class: `timeline${seek ? " plays" : ""}`, role: "group", "aria-label": "timeline" });
  if (video.strip) {
    const picture = make("img", { src: video.strip, alt: "Pictures from the video, evenly spaced", decoding: "async" });
    plot.append(lane("", "", make("div", { class: "track strip" }, picture)));
  }
  plot.append(saliencyLane(query, seconds));
  if (query.truth.length) plot.append(truthLane(query.truth, seconds, seek));
  plot.append(...query.moments.map((_, place) => foundLane(query, place, seconds, seek, action)));
  plot.append(axisLane(seconds, width));
  if (player && player.element) {
    plot.append(player.element);
    player.onTime((at) => point(plot, at, seconds));
  }
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
  plot.style.setProperty("--at", `${Math.min(100, (at / seconds) * 100)}%`);
}
