// Live plots of the last minutes. uPlot is loaded before this module.

/* global uPlot */

import { clock } from './format.js';

// samples is how many samples are kept, one a second.
const samples = 300;

// A Plot shows series over time. Its lines have the colours of CSS variables, so that they follow
// the colours of the page.
export class Plot {
  // least is the least range of values: smaller ones are all but zero. format writes a value.
  constructor(element, variables, least, format) {
    this.least = least;
    this.element = element;
    this.variables = variables;
    this.format = format;
    this.data = [[], ...variables.map(() => [])];
    this.draw();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(element);
  }

  size() {
    return { width: Math.max(this.element.clientWidth, 100), height: 180 };
  }

  draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = {
      stroke: colour('faint'),
      grid: { stroke: colour('line'), width: 1 },
      ticks: { stroke: colour('line'), width: 1 },
    };
    const times = {
      ...axis, space: 90, values: (_, ticks) => ticks.map((t) => clock(new Date(t * 1000))),
    };
    this.plot?.destroy();
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_, min, max) => [0, Math.max(max * 1.1, this.least)] } },
      axes: [times, { ...axis, size: 76, values: (_, ticks) => ticks.map(this.format) }],
      series: [{}, ...this.variables.map((name) => (
        { stroke: colour(name), width: 2, points: { show: false } }))],
    }, this.data, this.element);
  }

  // add adds a sample at a time in seconds; null is a gap.
  add(time, ...values) {
    [time, ...values].forEach((value, i) => {
      this.data[i].push(value);
      if (this.data[i].length > samples) this.data[i].shift();
    });
    this.plot.setData(this.data);
  }
}
