// A table that its reader sorts by the heading of any column.

// maxRows bounds the rows that are shown: a browser is slow with more.
const maxRows = 200;

export class Table {
  // columns are {title, value(row), text(row), number, long}: value is what rows are sorted by, and
  // what is shown where there is no text.
  constructor(element, columns, sortedBy, descending) {
    this.columns = columns;
    this.sorted = sortedBy;
    this.descending = descending;
    this.rows = [];
    const head = element.createTHead().insertRow();
    this.headings = columns.map((column, i) => {
      const th = document.createElement('th');
      th.scope = 'col';
      th.classList.toggle('number', Boolean(column.number));
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = column.title;
      button.addEventListener('click', () => this.sortBy(i));
      th.append(button);
      head.append(th);
      return th;
    });
    this.body = element.createTBody();
  }

  sortBy(column) {
    this.descending = column === this.sorted ? !this.descending :
      Boolean(this.columns[column].number);
    this.sorted = column;
    this.show(this.rows);
  }

  // show shows rows, in the order that the reader has chosen.
  show(rows) {
    this.rows = rows;
    const value = this.columns[this.sorted].value;
    const sign = this.descending ? -1 : 1;
    const compare = (a, b) => {
      const x = value(a);
      const y = value(b);
      return sign * (typeof x === 'number' ? x - y : String(x).localeCompare(String(y)));
    };
    const shown = [...rows].sort(compare).slice(0, maxRows);
    this.headings.forEach((th, i) => {
      if (i === this.sorted) {
        th.setAttribute('aria-sort', this.descending ? 'descending' : 'ascending');
      } else {
        th.removeAttribute('aria-sort');
      }
    });
    while (this.body.rows.length > shown.length) this.body.deleteRow(-1);
    shown.forEach((row, i) => this.fill(this.body.rows[i] ?? this.body.insertRow(), row));
    if (rows.length === 0) this.note('none');
    if (rows.length > maxRows) this.note(`${rows.length - maxRows} more are not shown`);
  }

  fill(tr, row) {
    if (tr.cells.length !== this.columns.length) {
      tr.replaceChildren(...this.columns.map(() => document.createElement('td')));
    }
    this.columns.forEach((column, i) => {
      const td = tr.cells[i];
      const text = String((column.text ?? column.value)(row));
      if (td.textContent !== text) td.textContent = text;
      td.className = column.number ? 'number' : column.long ? 'long' : '';
      td.title = column.long ? text : '';
    });
  }

  note(text) {
    const td = this.body.insertRow().insertCell();
    td.colSpan = this.columns.length;
    td.className = 'empty';
    td.textContent = text;
  }
}
