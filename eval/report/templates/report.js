(() => {
  const PAGE = 10;
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

  function answerNode(index, answer, text) {
    const [, correct, finish] = answer;
    const mark = element("span", correct ? "right" : "wrong", correct ? "✓ right" : "✗ wrong");
    const title = element("h4", "", `${data.variants[index]} `, mark);
    if (finish !== "stop") {
      const cut = finish === "length" ? "cut off at the limit" : finish;
      title.append(element("small", "", ` · ${cut}`));
    }
    if (!answer[0]) text = element("p", "empty", "(empty answer)");
    text.dir = "auto";
    return element("div", data.styles[index], title, text);
  }

  function sampleNode(sample) {
    const tags = [sample.suite, sample.task, sample.change && `reworded: ${sample.change}`];
    const title = element("h3", "", `${sample.id} `,
      element("span", "", `· ${tags.filter(Boolean).join(" · ")}`));
    const prompt = element("p", "prompt", sample.prompt);
    prompt.tabIndex = 0;
    prompt.dir = "auto";
    prompt.setAttribute("aria-label", "Prompt");
    const row = element("div", "answers");
    if (sample.reference) {
      const text = element("p", "", sample.reference);
      text.dir = "auto";
      row.append(element("div", "", element("h4", "", "Reference"), text));
    }
    const base = sample.answers[0];
    sample.answers.forEach((answer, index) => {
      if (!answer) return;
      const other = index || Number(fields.variant.value); // the base answer is marked against the chosen variant
      const pair = base && sample.answers[other]
        ? compared(base[0], sample.answers[other][0])[index ? 1 : 0]
        : element("p", "", answer[0]);
      row.append(answerNode(index, answer, pair));
    });
    return element("article", "sample", title, prompt, row);
  }

  const OUTCOMES = {
    all: ["All", () => true],
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
