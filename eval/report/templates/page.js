"use strict";
/* What the scripts of every page share: elements, filter forms, paged lists. */
const page = (() => {
  /* Every text reaches the page through textContent: nothing foreign becomes markup. */
  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  function data() {
    return JSON.parse(document.getElementById("data").textContent);
  }

  /* Fill a select; one that leaves no choice is hidden. Entries are [value, text]. */
  function options(select, entries) {
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    select.parentElement.hidden = entries.length < 2;
  }

  /* Options "*" for everything and "=value" for each value that occurs. */
  function choices(select, values, all, none) {
    const entries = [...new Set(values)].map((value) => [`=${value}`, value || none]);
    options(select, entries.length > 1 ? [["*", all], ...entries] : [["*", all]]);
  }

  function chosen(select, value) {
    return select.value === "*" || select.value === `=${value}`;
  }

  /* Call `run` when a choice changes, and shortly after typing pauses. */
  function onFilter(form, run) {
    let pause;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", run);
    for (const input of form.querySelectorAll("input[type=search]")) {
      input.addEventListener("input", () => {
        clearTimeout(pause);
        pause = setTimeout(run, 150);
      });
    }
  }

  /* Show `size` items at a time in a section with .list, .count and [data-turn] buttons. */
  function pager(section, size, noun, draw) {
    const state = { at: 0, found: [] };
    const list = section.querySelector(".list"), count = section.querySelector(".count");
    const buttons = section.querySelectorAll("[data-turn]");

    function countText(start, shown) {
      const all = state.found.length;
      if (!all) return `No ${noun} matches these filters.`;
      if (all === 1) return `1 ${noun}`;
      return `${start + 1}–${start + shown} of ${all.toLocaleString("en")} ${noun}s`;
    }

    function show() {
      const pages = Math.max(1, Math.ceil(state.found.length / size));
      const start = state.at * size;
      const shown = state.found.slice(start, start + size);
      list.replaceChildren(...shown.map(draw));
      count.textContent = countText(start, shown.length);
      for (const button of buttons) {
        const target = state.at + Number(button.dataset.turn);
        button.disabled = target < 0 || target >= pages;
      }
    }

    function turn(event) {
      state.at += Number(event.currentTarget.dataset.turn);
      show();
      const below = event.currentTarget.closest("nav").previousElementSibling === list;
      if (below) section.scrollIntoView();
    }

    for (const hidden of section.querySelectorAll("[hidden]:not(label)")) hidden.hidden = false;
    for (const button of buttons) button.addEventListener("click", turn);
    return {
      show,
      set(found) {
        state.found = found;
        state.at = 0;
        show();
      },
    };
  }

  return { element, data, options, choices, chosen, onFilter, pager };
})();
