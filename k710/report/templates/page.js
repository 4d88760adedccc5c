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
  const draw = (plot) => {
    const { data, layout } = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    Plotly.react(plot, data, dress(plot, layout), { displayModeBar: false, responsive: true });
  };
  const plots = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !target.dataset.drawn) {
        target.dataset.drawn = "yes";
        draw(target);
      }
    }
  }, { rootMargin: "600px" });
  plots.forEach((plot) => seen.observe(plot));

  const dressAll = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
    plots.filter((plot) => plot.dataset.drawn).forEach(draw);
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    dressAll();
  });
  prefersDark.addEventListener("change", dressAll);
  dressAll();

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
