(() => {
  const SAMPLES_PER_PAGE = 5, NAMED = 3, ROWS_PER_PAGE = 25;
  const EDGES = { loss: [0.5, 1.45, 3, 4.5, 6.6, 10, 15], entropy: [0.5, 1, 2, 3, 4, 6, 8] };
  const BANDS = { high: "z-low", good: "z-mid", fair: "z-high", suspect: "z-discarded" };
  const NAMES = { min_k: "Min-K%++", ifd: "IFD", n_trained: "trained tokens" };
  const SIGNS = { overconfident_error: "sure, and wrong", suspicious_certainty: "very sure, and surprised", hard: "unsure, and wrong", lucky: "unsure, and right" };
  const REPEATS = [
    ["*", "All rows", () => true],
    ["none", "Sharing nothing", (row) => !row.repeats.some(Boolean)],
    ["prompt", "Prompt repeats", (row) => row.repeats[0] > 1],
    ["answer", "Answer repeats", (row) => row.repeats[1] > 1],
    ["row", "Row repeats", (row) => row.repeats[2] > 1],
  ];
  const { element, options, choices, chosen } = page;
  const data = page.data();
  const form = document.getElementById("filters");
  const fields = form.elements;
  const rows = data.rows.map((cells, index) => {
    const [id, source, line, task, band, language, prompt, answer, repeats, scores] = cells;
    return { id, place: `${data.sources[source]}:${line}`, task, band, language, prompt, answer, repeats, scores, index };
  });
  const heat = { kind: "loss" };
  const words = (name) => NAMES[name] ?? name.replaceAll("_", " ");

  /* Heat maps */
  function level(number) {
    const edges = EDGES[heat.kind];
    const found = edges.findIndex((edge) => number < edge);
    return found < 0 ? edges.length : found;
  }

  function told([text, loss, entropy, span], flags) {
    const parts = [`“${text.trim() || text}”`];
    if (loss === null) parts.push("not scored");
    else parts.push(`loss ${loss.toFixed(2)}`);
    if (entropy !== null) parts.push(`entropy ${entropy.toFixed(2)}`);
    if (span >= 0) parts.push(SIGNS[flags[span][0]] ?? words(flags[span][0]));
    return parts.join(" · ");
  }

  function tokenNode(piece) {
    const value = piece[heat.kind === "loss" ? 1 : 2];
    const node = element("span", value === null ? "t" : `t h${level(value)}`, piece[0]);
    node.piece = piece;
    return node;
  }

  /* Pieces in order, neighbours of one span inside one mark that names its pattern. */
  function piecesNode(turn, flags) {
    const node = element("p", "heat");
    node.dir = "auto";
    if (turn.before) node.append(element("span", "left-out", `… ${turn.before} tokens before … `));
    for (let i = 0; i < turn.pieces.length;) {
      const span = turn.pieces[i][3];
      const into = span < 0 ? node : element("mark", `span ${flags[span][0]}`);
      for (; i < turn.pieces.length && turn.pieces[i][3] === span; i++) into.append(tokenNode(turn.pieces[i]));
      if (into !== node) {
        const [pattern, loss, entropy] = flags[span];
        if (span < NAMED) into.append(element("small", "pattern", SIGNS[pattern] ?? words(pattern)));
        into.title = `loss ${loss}, entropy ${entropy} nats`;
        node.append(into);
      }
    }
    if (turn.after) node.append(element("span", "left-out", ` … ${turn.after} tokens after`));
    return node;
  }

  /* One token at a time is read out: by pointer, touch or the arrow keys. */
  function readable(node, flags) {
    const line = element("output", "readout", "Point at a token, or use the arrow keys.");
    const tokens = [...node.querySelectorAll(".t")];
    const state = { at: -1 };
    function pick(index) {
      tokens[state.at]?.classList.remove("at");
      state.at = index;
      tokens[index].classList.add("at");
      line.textContent = told(tokens[index].piece, flags);
    }
    node.tabIndex = 0;
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", "Answer, token by token");
    for (const name of ["pointerover", "click"]) {
      node.addEventListener(name, (event) => {
        const index = tokens.indexOf(event.target.closest(".t"));
        if (index >= 0) pick(index);
      });
    }
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !tokens.length) return;
      event.preventDefault();
      pick(Math.min(tokens.length - 1, Math.max(0, state.at + step)));
    });
    return [node, line];
  }

  function turnNode(turn, flags) {
    if (turn.pieces) {
      const name = turn.role === "text" ? "Text" : "Answer";
      return element("div", "turn", element("h4", "", name), ...readable(piecesNode(turn, flags), flags));
    }
    const text = element("p", "said", turn.text || "(empty)");
    text.dir = "auto";
    const folded = element("details", "turn", element("summary", "", `${turn.role}: `,
      element("span", "soft", turn.text.slice(0, 120))), text);
    return folded;
  }

  /* Rows */
  function shown(number) {
    return Math.abs(number) >= 100 ? Math.round(number).toLocaleString("en") : String(Number(number.toPrecision(3)));
  }

  function heading(row) {
    const band = element("span", `band ${BANDS[row.band] ?? "s0"}`, element("span", "dot"), row.band);
    const facts = [row.task, row.language].filter(Boolean).join(" · ");
    return element("h3", "", `${row.index + 1}. ${row.id} `, band, element("span", "", facts ? ` · ${facts}` : ""));
  }

  function scoresNode(row) {
    const sorted = fields.sort.selectedIndex;
    return element("p", "scores", ...data.scores.map((name, i) =>
      element("span", i === sorted ? "sorted" : "", `${words(name)} `, element("b", "", shown(row.scores[i])))));
  }

  function repeatsNode(row) {
    const parts = ["prompt", "answer", "row"].map((what, i) => row.repeats[i] > 1 && `${what} ×${row.repeats[i].toLocaleString("en")}`);
    return parts.some(Boolean) ? [element("p", "repeats", `Repeats: ${parts.filter(Boolean).join(", ")}`)] : [];
  }

  function sampleNode(row) {
    const sample = data.samples[row.index];
    const why = element("ul", "why", ...sample.reasons.map((reason) => element("li", "", reason)));
    return element("article", "sample", heading(row), why,
      ...sample.turns.map((turn) => turnNode(turn, sample.flags)),
      scoresNode(row), element("p", "place", row.place));
  }

  function rowNode(row) {
    const parts = [["prompt", row.prompt], ["answer", row.answer]].map(([name, text]) => {
      const node = element("p", name === "prompt" ? "asked" : "answered", text);
      node.dir = "auto";
      return text ? node : "";
    });
    const node = element("article", "sample row", heading(row), ...parts, ...repeatsNode(row), scoresNode(row));
    node.append(element("p", "place", row.place));
    return node;
  }

  /* Filters */
  function haystack(row) {
    row.hay ??= [row.id, row.prompt, row.answer].join("\n").toLowerCase();
    return row.hay;
  }

  function matches(row) {
    if (!["task", "band", "language"].every((name) => chosen(fields[name], row[name]))) return false;
    if (!REPEATS[fields.repeats.selectedIndex][2](row)) return false;
    const text = fields.text.value.trim().toLowerCase();
    return !text || haystack(row).includes(text);
  }

  const list = page.pager(document.getElementById("rows"), ROWS_PER_PAGE, "row", rowNode);
  const suspects = page.pager(document.getElementById("suspicious"), SAMPLES_PER_PAGE, "row", sampleNode);

  function filter() {
    const by = fields.sort.selectedIndex, sign = fields.order.value === "down" ? -1 : 1;
    const found = rows.filter(matches);
    if (by >= 0) found.sort((a, b) => sign * (a.scores[by] - b.scores[by]) || a.index - b.index);
    list.set(found);
  }

  function colour(kind) {
    heat.kind = kind;
    for (const scale of document.querySelectorAll("[data-scale]")) scale.hidden = scale.dataset.scale !== kind;
    suspects.show();
  }

  function start() {
    choices(fields.task, rows.map((row) => row.task), "All task types", "(none)");
    choices(fields.band, rows.map((row) => row.band), "All bands", "");
    choices(fields.language, rows.map((row) => row.language), "All languages", "(unknown)");
    options(fields.repeats, REPEATS);
    options(fields.sort, data.scores.map((name) => [name, words(name)]));
    options(fields.order, [["down", "Highest first"], ["up", "Lowest first"]]);
    page.onFilter(form, filter);
    const entropies = data.samples.some((sample) => sample.turns.some((turn) => turn.pieces?.some((piece) => piece[2] !== null)));
    const choice = document.getElementById("switch");
    choice.hidden = !entropies;
    choice.addEventListener("change", (event) => colour(event.target.value));
    filter();
    suspects.set(rows.slice(0, data.samples.length));
    colour("loss");
  }

  start();
})();
