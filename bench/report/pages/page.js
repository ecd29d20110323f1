"use strict";
// Sorts, filters and hides what is in the page already; computes nothing.
const say = text => { document.getElementById("status").textContent = text; };

function value(row, column) {
  const cell = row.cells[column];
  if (cell.tagName === "TH") return cell.textContent.trim();
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  return cell.textContent.trim() || null;
}

function sort(table, header) {
  const column = header.cellIndex;
  const now = header.getAttribute("aria-sort");
  const order = now ? (now === "ascending" ? "descending" : "ascending") : header.dataset.first || "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map(row => [row, value(row, column)]);
  rows.sort(([, a], [, b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const numbers = typeof a === "number" && typeof b === "number";
    return sign * (numbers ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  });
  for (const [row] of rows) body.append(row);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  say(`${table.caption.textContent.split(":")[0]}: sorted by ${header.textContent.trim()}, ${order}`);
}

const tables = [...document.querySelectorAll("table.sortable")];
for (const table of tables) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, header));
    header.append(button);
  }
}

document.getElementById("filter").addEventListener("input", event => {
  const wanted = event.target.value.trim().toLowerCase();
  const shown = new Set();
  const all = new Set();
  for (const table of tables) {
    for (const row of table.tBodies[0].rows) {
      const name = row.querySelector("th").textContent.trim();
      row.hidden = !name.toLowerCase().includes(wanted);
      all.add(name);
      if (!row.hidden) shown.add(name);
    }
  }
  say(`${shown.size} of ${all.size} methods shown`);
});

for (const box of document.querySelectorAll("[data-group]")) {
  const apply = () => document.body.classList.toggle(`hide-${box.dataset.group}`, !box.checked);
  box.addEventListener("change", apply);
  apply();
}

const controls = document.getElementById("controls");
controls.addEventListener("submit", event => event.preventDefault());
controls.hidden = false;

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
