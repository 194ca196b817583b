// Makes the headers of sortable tables buttons that sort their rows. Rows without a value stay last.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const compareText = new Intl.Collator(undefined, { numeric: true }).compare;
  headers.forEach((header, column) => {
    const number = header.classList.contains("number");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => (number ? a - b : compareText(a, b));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      // Numbers begin with the highest, which is what is looked for.
      const next = { ascending: "descending", descending: "ascending" };
      const order = next[header.ariaSort] || (number ? "descending" : "ascending");
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * compare(x, y);
      });
      body.append(...rows);
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", order);
    });
  });
}
