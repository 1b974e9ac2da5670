// The page: scores, and the list of queries, of which only as many are built as were scrolled to.
(() => {
  const ROWS_AT_A_TIME = 40;
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const list = find("list");
  const narrow = matchMedia("(max-width: 46rem)");
  const hasScores = data.queries.some((query) => "ap" in query.scores || "highlights" in query.scores);
  const hasTruth = data.queries.some((query) => query.truth.length);
  const hasIou = data.queries.some((query) => "iou" in query.scores);
  document.body.classList.toggle("no-scores", !hasScores);
  document.body.classList.toggle("no-truth", !hasTruth);

  find("title").textContent = data.title;
  for (const [name, value] of data.facts) {
    find("facts").append(make("div", {}, make("dt", { text: name }), make("dd", { text: value })));
  }

  // Scores

  function cell(values) {
    if (!values) return make("td", { text: "–" });
    const [value, low, high] = values;
    const figures = make("div", { class: "figures" }, make("span", { class: "value", text: value.toFixed(1) }));
    const content = make("td", {}, figures);
    if (low !== undefined) {
      figures.append(make("span", { class: "range", text: `${low.toFixed(1)} – ${high.toFixed(1)}` }));
      const [interval, dot] = [make("span"), make("i")];
      interval.style.left = `${low}%`;
      interval.style.width = `${high - low}%`;
      dot.style.left = `${value}%`;
      content.append(make("div", { class: "whisker", "aria-hidden": "true" }, interval, dot));
    }
    return content;
  }

  function scoreTable(table, title) {
    const counted = table.rows.some((row) => "queries" in row);
    const head = make("tr", {}, make("th", { scope: "col" }, make("span", { class: "hidden", text: "group" })));
    if (counted) head.append(make("th", { class: "count", scope: "col", text: "queries" }));
    head.append(...table.columns.map((name) => make("th", { scope: "col", text: name })));
    const body = make("tbody");
    let kind = null;
    for (const row of table.rows) {
      const first = kind !== null && kind !== row.kind ? "first" : "";
      kind = row.kind;
      const line = make("tr", { class: `${row.kind === "all" ? "leading" : ""} ${first}` }, make("th", { scope: "row", text: row.name }));
      if (counted) line.append(make("td", { class: "count", text: row.queries.toLocaleString("en") }));
      line.append(...row.cells.map(cell));
      body.append(line);
    }
    const caption = make("caption", { class: "hidden", text: title });
    return make("table", {}, caption, make("thead", {}, head), body);
  }

  const intervals = "Percent; beside it and as a bar the 95 % interval, which resamples whole videos.";
  if (data.summary) {
    find("scores").append(
      make("div", { class: "sheet", tabindex: 0, role: "group", "aria-label": data.summary.title },
        scoreTable(data.summary, data.summary.title),
        ...[intervals, ...data.summary.notes].map((text) => make("p", { class: "note", text }))),
    );
  }
  for (const table of data.tables) {
    const sheet = make("details", { class: "sheet", open: !data.summary }, make("summary", { text: table.title }));
    sheet.append(scoreTable(table, table.title));
    find("scores").append(sheet);
  }

  // The list

  const collator = new Intl.Collator(undefined, { numeric: true });
  const top = (query) => (query.moments.length ? query.moments[0][2] : 0);
  const main = (query) => query.scores.ap ?? query.scores.highlights ?? -1;
  const ORDERS = [
    hasScores && ["lowest score first", (a, b) => main(a) - main(b) || (a.scores.iou ?? 0) - (b.scores.iou ?? 0)],
    hasScores && ["highest score first", (a, b) => main(b) - main(a) || (b.scores.iou ?? 0) - (a.scores.iou ?? 0)],
    // Scores of moments found without training compare parts of one video, never two answers.
    !data.caveat && ["most confident first", (a, b) => top(b) - top(a)],
    !data.caveat && ["least confident first", (a, b) => top(a) - top(b)],
    ["by video", (a, b) => collator.compare(a.video, b.video)],
    ["by sentence", (a, b) => collator.compare(a.query, b.query)],
    ["as given", () => 0],
  ].filter(Boolean);
  const FILTERS = [
    ["all", () => true],
    hasIou && ["found (IoU from 0.5)", (query) => query.scores.iou >= 50],
    hasIou && ["missed (IoU under 0.5)", (query) => query.scores.iou < 50],
  ].filter(Boolean);
  const texts = new Map(data.queries.map((query) => [query, `${query.query}\n${query.video}\n${query.id}`.toLowerCase()]));
  for (const [id, choices] of [["sort", ORDERS], ["filter", FILTERS]]) {
    find(id).append(...choices.map(([name], place) => make("option", { value: place, text: name })));
  }
  if (data.queries.length < 2) document.querySelector(".bar").hidden = true;
  if (FILTERS.length < 2) find("filter").parentElement.hidden = true;

  let shown = [];
  let built = 0;

  function score(query) {
    const percent = main(query);
    const name = "ap" in query.scores ? "AP" : "HL AP";
    return make("div", { class: "mark" }, make("b", { text: percent < 0 ? "–" : percent.toFixed(0) }), make("span", { text: name }));
  }

  function row(query) {
    const video = data.videos[query.video];
    const facts = [query.video];
    if ("iou" in query.scores) facts.push(`IoU ${(query.scores.iou / 100).toFixed(2)}`);
    if (query.moments.length) facts.push(`score ${top(query).toFixed(2)}`);
    if (query.nothing) facts.push(query.nothing);
    if (query.verdict) facts.push(query.verdict);
    const words = make("div", {},
      make("div", { class: "sentence", dir: "auto", text: query.query }),
      make("div", { class: "of", text: facts.join("  ·  ") }));
    const summary = make("summary", {}, ...(hasScores ? [score(query)] : []), words, miniature(query, video.seconds));
    const details = make("details", {}, summary);
    const item = make("li", {}, details);
    details.addEventListener("toggle", () => {
      item.classList.toggle("open", details.open);
      if (details.open && !details.querySelector(".timeline")) {
        const width = narrow.matches ? item.clientWidth : item.clientWidth - 360;
        details.append(timeline(query, video, width, { player: video.source ? makePlayer(video.source) : null }));
      }
      const playing = details.querySelector("video");
      if (!details.open && playing) playing.pause();
    });
    return item;
  }

  function build() {
    if (built >= shown.length) return;
    const rows = shown.slice(built, built + ROWS_AT_A_TIME).map(row);
    built += rows.length;
    list.append(...rows);
  }

  function refresh() {
    const words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const keep = FILTERS[find("filter").value || 0][1];
    shown = data.queries.filter((query) => keep(query) && words.every((word) => texts.get(query).includes(word)));
    shown.sort(ORDERS[find("sort").value || 0][1]);
    list.replaceChildren();
    built = 0;
    build();
    const all = data.queries.length.toLocaleString("en");
    const some = shown.length.toLocaleString("en");
    find("count").textContent = shown.length === data.queries.length ? `${all} queries` : `${some} of ${all} queries`;
    if (!shown.length) list.append(make("li", { class: "empty", text: "Nothing fits. Try fewer words." }));
  }

  for (const [id, event] of [["search", "input"], ["sort", "change"], ["filter", "change"]]) {
    find(id).addEventListener(event, refresh);
  }
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    if (event.key === "/" && !target.matches("input, select")) {
      event.preventDefault();
      find("search").focus();
    } else if (target.matches("#list summary") && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      const item = target.closest("li");
      const next = event.key === "ArrowDown" ? item.nextElementSibling : item.previousElementSibling;
      if (next) {
        event.preventDefault();
        next.querySelector("summary").focus();
      }
    }
  });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) build();
  }, { rootMargin: "1200px" }).observe(find("more"));
  refresh();
  if (data.queries.length === 1) list.querySelector("details").open = true;
})();
