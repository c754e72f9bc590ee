(() => {
  const PAGE = 10;
  const SIDES = 4; // answers beside each other; of more, the base's and the chosen variant's
  const MOST_TOKENS = 600; // of an answer; longer ones are shown without word marks
  const { element, options, choices, chosen } = page;
  const data = page.data();
  const section = document.getElementById("samples");
  const form = document.getElementById("filters");
  const fields = form.elements;

  /* Words, single CJK characters, spaces and signs; joined again they give the text. */
  function tokens(text) {
    const pattern = /\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|[\p{L}\p{N}\p{M}]+|\s+|./gsu;
    return text.match(pattern) ?? [];
  }

  /* Longest common subsequence by dynamic programming: which tokens of each side are kept. */
  function keptTokens(a, b) {
    const width = b.length + 1;
    const best = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        best[i * width + j] = a[i] === b[j]
          ? best[(i + 1) * width + j + 1] + 1
          : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
      }
    }
    const kept = [new Set(), new Set()];
    for (let i = 0, j = 0; i < a.length && j < b.length;) {
      if (a[i] === b[j]) { kept[0].add(i++); kept[1].add(j++); }
      else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
      else j++;
    }
    return kept;
  }

  /* The text with the tokens that are not kept in marks; neighbours share one mark. */
  function marked(text, pieces, kept, className) {
    const node = element("p");
    for (let i = 0; i < pieces.length;) {
      const start = i, same = kept.has(i);
      while (i < pieces.length && kept.has(i) === same) i++;
      const run = pieces.slice(start, i).join("");
      node.append(same || !run.trim() ? run : element("mark", className, run));
    }
    return node;
  }

  /* Both texts as paragraphs, marked word by word; plain where they share almost nothing. */
  function compared(before, after) {
    const a = tokens(before), b = tokens(after);
    const plain = [element("p", "", before), element("p", "", after)];
    if (a.length > MOST_TOKENS || b.length > MOST_TOKENS) return plain;
    const kept = keptTokens(a, b);
    const words = [...kept[0]].filter((i) => a[i].trim()).length;
    const most = Math.max(a.filter((t) => t.trim()).length, b.filter((t) => t.trim()).length);
    if (words < 0.2 * most) return plain;
    return [marked(before, a, kept[0], "gone"), marked(after, b, kept[1], "new")];
  }

  /* What sampling a changed case again says: [tries, base right, variant right, stable]. */
  function againText(again) {
    const [tries, before, after, stable] = again;
    const sure = stable ? "the change is stable" : "the change may be chance";
    return `sampled again: right ${after} of ${tries}, ${data.variants[0]} ${before} of ${tries}; ${sure}`;
  }

  function answerNode(sample, index, text) {
    const [words, correct, finish] = sample.answers[index];
    const mark = element("span", correct ? "right" : "wrong", correct ? "✓ right" : "✗ wrong");
    const title = element("h4", "", `${data.variants[index]} `, mark);
    if (finish !== "stop") {
      const cut = finish === "length" ? "cut off at the limit" : finish;
      title.append(element("small", "", ` · ${cut}`));
    }
    if (!words) text = element("p", "empty", "(empty answer)");
    text.dir = "auto";
    const node = element("div", data.styles[index], title, text);
    const again = sample.again[index];
    if (again) node.append(element("p", "again", againText(again)));
    return node;
  }

  function referenceNode(sample) {
    const text = element("p", "", sample.reference);
    text.dir = "auto";
    return element("div", "", element("h4", "", "Reference"), text);
  }

  /* One answer, its words marked against the base answer; that one's against the chosen variant. */
  function comparedNode(sample, index) {
    const base = sample.answers[0];
    const other = sample.answers[index || Number(fields.variant.value)];
    const text = base && other
      ? compared(base[0], other[0])[index ? 1 : 0]
      : element("p", "", sample.answers[index][0]);
    return answerNode(sample, index, text);
  }

  /* Answers of the variants that do not fit beside each other, made when they are asked for. */
  function moreNode(sample, indices) {
    const more = element("details", "more", element("summary", "", `${indices.length} more variants`));
    more.addEventListener("toggle", () => {
      if (more.childElementCount > 1) return;
      more.append(element("div", "answers", ...indices.map((index) => comparedNode(sample, index))));
    });
    return more;
  }

  function sampleNode(sample) {
    const tags = [sample.suite, sample.task, sample.change && `reworded: ${sample.change}`];
    const title = element("h3", "", `${sample.id} `,
      element("span", "", `· ${tags.filter(Boolean).join(" · ")}`));
    const prompt = element("p", "prompt", sample.prompt);
    prompt.tabIndex = 0;
    prompt.dir = "auto";
    prompt.setAttribute("aria-label", "Prompt");
    const found = [...sample.answers.keys()].filter((index) => sample.answers[index]);
    const chosen = Number(fields.variant.value);
    const beside = found.filter((index) => found.length <= SIDES || !index || index === chosen);
    const rest = found.filter((index) => !beside.includes(index));
    const row = element("div", "answers", ...beside.map((index) => comparedNode(sample, index)));
    if (sample.reference) row.prepend(referenceNode(sample));
    const node = element("article", "sample", title, prompt, row);
    if (rest.length) node.append(moreNode(sample, rest));
    return node;
  }

  const OUTCOMES = {
    all: ["All", () => true],
    changed: ["Changed sides: fixed or broken", (before, after) => before !== after],
    fixed: ["Fixed: wrong before, right after", (before, after) => !before && after],
    broken: ["Broken: right before, wrong after", (before, after) => before && !after],
    wrong: ["Both wrong", (before, after) => !before && !after],
    right: ["Both right", (before, after) => before && after],
  };

  function haystack(sample) {
    sample.hay ??= [sample.id, sample.prompt, sample.reference,
      ...sample.answers.map((answer) => answer ? answer[0] : "")].join("\n").toLowerCase();
    return sample.hay;
  }

  function matches(sample) {
    for (const name of ["suite", "task", "change"]) {
      if (!chosen(fields[name], sample[name])) return false;
    }
    if (fields.outcome.value !== "all") {
      const before = sample.answers[0], after = sample.answers[Number(fields.variant.value)];
      if (!before || !after) return false;
      if (!OUTCOMES[fields.outcome.value][1](before[1], after[1])) return false;
    }
    const text = fields.text.value.trim().toLowerCase();
    return !text || haystack(sample).includes(text);
  }

  const pager = page.pager(section, PAGE, "sample", sampleNode);

  function filter() {
    pager.set(data.samples.filter(matches));
  }

  function start() {
    const values = (name) => data.samples.map((sample) => sample[name]);
    choices(fields.suite, values("suite"), "All suites", "");
    choices(fields.task, values("task"), "All task types", "(none)");
    choices(fields.change, values("change"), "Any wording", "Original");
    options(fields.variant, data.variants.slice(1).map((name, i) => [i + 1, `${data.variants[0]} → ${name}`]));
    options(fields.outcome, Object.entries(OUTCOMES).map(([value, [text]]) => [value, text]));
    page.onFilter(form, filter);
    filter();
  }

  start();
})();
