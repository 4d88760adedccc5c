"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";

  // Charts take their paper and ink from the page, so that both colour schemes are one figure.
  const dress = (plot, layout) => {
    const card = getComputedStyle(plot.closest(".card")), body = getComputedStyle(document.body);
    const axis = { gridcolor: card.borderTopColor, zerolinecolor: card.borderTopColor, linecolor: card.borderTopColor };
    const font = { family: body.fontFamily, size: 13, color: body.color };
    const hoverlabel = { font, bgcolor: card.backgroundColor, bordercolor: card.borderTopColor };
    const paper = { paper_bgcolor: card.backgroundColor, plot_bgcolor: card.backgroundColor };
    return {
      ...layout, ...paper, font, hoverlabel, dragmode: false,
      xaxis: { ...layout.xaxis, ...axis, title: { ...layout.xaxis.title, font: { size: 13 } } },
      yaxis: { ...layout.yaxis, ...axis, title: { ...layout.yaxis.title, font: { size: 13 } } },
    };
  };
  const draw = (plot, size = {}) => {
    plot.dataset.drawn = "yes";
    const { data, layout } = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    const config = { displayModeBar: false, responsive: !size.width };
    return Plotly.react(plot, data, { ...dress(plot, layout), ...size }, config);
  };
  const plots = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !target.dataset.drawn) draw(target);
    }
  }, { rootMargin: "600px" });
  plots.forEach((plot) => seen.observe(plot));

  const dressAll = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
    plots.filter((plot) => plot.dataset.drawn).forEach((plot) => draw(plot));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    dressAll();
  });
  prefersDark.addEventListener("change", dressAll);
  dressAll();

  // On paper: every chart, in light colours, as wide as a page.
  const PAGE_PX = 640;
  let themeOnScreen;
  addEventListener("beforeprint", () => {
    themeOnScreen = root.dataset.theme;
    root.dataset.theme = "light";
    plots.forEach((plot) => draw(plot, { width: PAGE_PX }));
  });
  addEventListener("afterprint", () => {
    if (themeOnScreen) root.dataset.theme = themeOnScreen;
    else delete root.dataset.theme;
    dressAll();
  });

  // What is wider than the screen says so, until its end is in sight.
  const look = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    const hint = box.previousElementSibling;
    box.classList.toggle("cut", hidden > 4 && box.scrollLeft < hidden - 4);
    hint.hidden = hidden <= 4;
  };
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => look(target.closest(".scroll"))));
  document.querySelectorAll(".scroll").forEach((box) => {
    const hint = document.createElement("p");
    hint.className = "hint";
    hint.textContent = "Wider than the screen: scroll sideways to see all of it.";
    hint.hidden = true;
    box.before(hint);
    box.addEventListener("scroll", () => look(box), { passive: true });
    sizes.observe(box);
    if (box.firstElementChild) sizes.observe(box.firstElementChild);
  });

  const number = (text) => (text === "" ? NaN : Number(text.replace(/[,%]/g, "")));
  const sort = (header) => {
    const table = header.closest("table"), body = table.tBodies[0], place = header.cellIndex;
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [row.cells[place].textContent.trim(), row]);
    const numeric = rows.every(([text]) => text === "" || !Number.isNaN(number(text)));
    const plain = (text) => text.replace(/(\d),(?=\d{3})/g, "$1"); // 1,000 to 1,200 comes after 800 to 1,000
    const natural = (a, b) => plain(a).localeCompare(plain(b), "en", { numeric: true });
    const compare = numeric ? (a, b) => number(a) - number(b) : natural;
    const empty = (text) => text === "";
    rows.sort(([a], [b]) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      return ascending ? compare(a, b) : compare(b, a);
    });
    body.append(...rows.map(([, row]) => row));
  };
  document.querySelectorAll("thead button").forEach((control) => {
    control.addEventListener("click", () => sort(control.closest("th")));
  });

  document.querySelectorAll("input[data-filters]").forEach((input) => {
    const target = document.getElementById(input.dataset.filters);
    const items = [...target.querySelectorAll("tbody tr, .strips > li")];
    const told = input.parentElement.querySelector("output");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const item of items) {
        const text = item.textContent.toLowerCase();
        item.hidden = !words.every((word) => text.includes(word));
        shown += !item.hidden;
      }
      told.textContent = words.length ? `${shown.toLocaleString("en")} of ${items.length.toLocaleString("en")}` : "";
    });
  });
})();
