"use strict";
(() => {
  const PAGE = 10;
  const MOST_TOKENS = 600; // of an answer; longer ones are shown without word marks
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const fields = form.elements;
  const state = { page: 0, found: [] };

  /* Every text reaches the page through textContent: nothing a model wrote becomes markup. */
  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

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

  function sampleNode(sample, chosen) {
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
      const other = index || chosen; // the base answer is marked against the chosen variant
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
      if (fields[name].value !== "*" && sample[name] !== fields[name].value.slice(1)) return false;
    }
    if (fields.outcome.value !== "all") {
      const before = sample.answers[0], after = sample.answers[Number(fields.variant.value)];
      if (!before || !after) return false;
      if (!OUTCOMES[fields.outcome.value][1](before[1], after[1])) return false;
    }
    const text = fields.text.value.trim().toLowerCase();
    return !text || haystack(sample).includes(text);
  }

  function countText(start, shown) {
    const all = state.found.length;
    if (!all) return "No sample matches these filters.";
    if (all === 1) return "1 sample";
    return `${start + 1}–${start + shown} of ${all.toLocaleString("en")} samples`;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(state.found.length / PAGE));
    const start = state.page * PAGE;
    const shown = state.found.slice(start, start + PAGE);
    const chosen = Number(fields.variant.value);
    document.getElementById("list").replaceChildren(...shown.map((s) => sampleNode(s, chosen)));
    document.getElementById("count").textContent = countText(start, shown.length);
    for (const button of document.querySelectorAll("[data-turn]")) {
      const target = state.page + Number(button.dataset.turn);
      button.disabled = target < 0 || target >= pages;
    }
  }

  function filter() {
    state.found = data.samples.filter(matches);
    state.page = 0;
    show();
  }

  function turn(event) {
    state.page += Number(event.currentTarget.dataset.turn);
    show();
    if (event.currentTarget.closest("nav").previousElementSibling.id === "list") {
      document.getElementById("samples").scrollIntoView();
    }
  }

  function options(name, entries) {
    fields[name].replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    fields[name].parentElement.hidden = entries.length < 2;
  }

  function choices(name, all, none) {
    const values = [...new Set(data.samples.map((sample) => sample[name]))];
    const entries = values.map((value) => [`=${value}`, value || none]);
    options(name, entries.length > 1 ? [["*", all], ...entries] : [["*", all]]);
  }

  function start() {
    choices("suite", "All suites", "");
    choices("task", "All task types", "(none)");
    choices("change", "Any wording", "Original");
    options("variant", data.variants.slice(1).map((name, i) => [i + 1, `${data.variants[0]} → ${name}`]));
    options("outcome", Object.entries(OUTCOMES).map(([value, [text]]) => [value, text]));
    for (const hidden of document.querySelectorAll("#samples [hidden]:not(label)")) hidden.hidden = false;
    let pause;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", filter);
    fields.text.addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(filter, 150);
    });
    for (const button of document.querySelectorAll("[data-turn]")) button.addEventListener("click", turn);
    filter();
  }

  start();
})();
