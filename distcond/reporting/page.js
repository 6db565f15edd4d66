"use strict";
// GROUPS: [{attack, dial, how, notes, lams, classes, of_classes, runs: [{name, colour, lone, shades, points: [{lam, sa, ra, n,
// flops, density, mark, classes: {sa, ra}}]}]}]; an accuracy is [value, low, high] in %.
// Every panel draws one group and marks one lam of it, `now`.

const at = (id) => document.getElementById(id);
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const UNUSED = ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "pan2d", "autoScale2d"];
const DASHES = { sa: "solid", ra: "dash" };
let group = GROUPS[0];
let now = 0;

// Colours for a dark page: a third of the way to white, which is visible and keeps them distinct.
function adaptColour(colour) {
  if (!matchMedia("(prefers-color-scheme: dark)").matches) return colour;
  const parts = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  return `#${parts.map((part) => Math.round(part + (255 - part) / 3).toString(16).padStart(2, "0")).join("")}`;
}

const shade = (run, score) => (run.colour === "ink" && !run.lone ? ink("ink") : adaptColour(run.lone ? run.shades[score] : run.colour));
const pointAt = (run, lam) => run.points.find((point) => point.lam === lam);
const bars = (points, score, colour) => ({
  type: "data", symmetric: false, thickness: 1.2, width: 3, color: `${colour}b0`,
  array: points.map((point) => point[score][2] - point[score][0]),
  arrayminus: points.map((point) => point[score][0] - point[score][1]),
});
const formatScore = ([value, low, high]) => `${value.toFixed(1)} (${low.toFixed(1)}-${high.toFixed(1)})`;
const hoverText = (run, point) =>
  `${run.name}<br>${group.dial} = ${point.lam}<br>SA ${formatScore(point.sa)} %<br>RA ${formatScore(point.ra)} %`;

function layout(x, y, extra = {}) {
  const axis = (title) => ({
    title: { text: title }, gridcolor: ink("grid"), zeroline: false, linecolor: ink("edge"), automargin: true,
  });
  return {
    margin: { l: 56, r: 16, t: 12, b: 48 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink("ink"), size: 13 }, hovermode: "closest",
    hoverlabel: { bgcolor: ink("card"), font: { color: ink("ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("edge"), activecolor: ink("faint") },
    legend: { orientation: "h", y: -0.2, yanchor: "top" },
    xaxis: axis(x), yaxis: axis(y), ...extra,
  };
}

function draw(id, traces, shape) {
  const div = at(id);
  Plotly.react(div, traces, shape, { displaylogo: false, responsive: true, modeBarButtonsToRemove: UNUSED });
  if (!div.listening) {
    div.listening = true;
    div.on("plotly_click", (event) => choose(group.lams.indexOf(event.points[0].customdata)));
  }
}

// The ring around the current operating point, in every panel.
function ring(x, y, colour) {
  return {
    x: [x], y: [y], mode: "markers", hoverinfo: "skip", showlegend: false, meta: "now",
    marker: { size: 17, symbol: "circle-open", color: colour, line: { width: 3 } },
  };
}

function drawTrade() {
  const several = group.runs.length > 1;
  const lines = group.runs.map((run) => ({
    x: run.points.map((point) => point.ra[0]), y: run.points.map((point) => point.sa[0]),
    error_x: bars(run.points, "ra", shade(run, "sa")), error_y: bars(run.points, "sa", shade(run, "sa")),
    mode: "lines+markers", cliponaxis: false, name: run.name, showlegend: several,
    hovertext: run.points.map((point) => hoverText(run, point)), hoverinfo: "text",
    customdata: run.points.map((point) => point.lam), line: { color: shade(run, "sa"), width: 2 },
    marker: { size: 8, symbol: run.points.map((point) => (point.mark.startsWith("*") ? "circle" : "circle-open")) },
  }));
  const rings = measuredNow().map(([run, point]) => ring(point.ra[0], point.sa[0], shade(run, "ra")));
  const labels = several ? [] : group.runs[0].points.map((point) => ({
    x: point.ra[0], y: point.sa[0], text: `${point.lam}`, showarrow: false, xshift: 16, yshift: 14,
    bgcolor: ink("card"), borderpad: 1, opacity: 0.9,
  }));
  draw("trade", [...lines, ...rings], layout("robust accuracy (RA), %", "standard accuracy (SA), %", { annotations: labels }));
}

function drawOver() {
  const traces = group.runs.flatMap((run) => ["ra", "sa"].flatMap((score) => {
    const lams = run.points.map((point) => point.lam);
    const colour = shade(run, score);
    const band = {
      x: [...lams, ...[...lams].reverse()], fill: "toself", fillcolor: colour, opacity: 0.16, line: { width: 0 },
      y: [...run.points.map((point) => point[score][2]), ...run.points.map((point) => point[score][1]).reverse()],
      mode: "lines", hoverinfo: "skip", showlegend: false,
    };
    const line = {
      x: lams, y: run.points.map((point) => point[score][0]), mode: "lines+markers", customdata: lams,
      name: run.lone ? score.toUpperCase() : run.name, showlegend: run.lone || score === "sa", cliponaxis: false,
      line: { color: colour, dash: DASHES[score], width: 2 }, marker: { size: 7 },
      hovertext: run.points.map((point) => hoverText(run, point)), hoverinfo: "text",
      error_y: run.points.length === 1 ? bars(run.points, score, colour) : undefined,
    };
    return [band, line];
  }));
  const rings = measuredNow().flatMap(([run, point]) =>
    ["sa", "ra"].map((score) => ring(point.lam, point[score][0], shade(run, score))));
  const lam = group.lams[now];
  draw("over", [...traces, ...rings], layout(`${group.dial}  (0 = standard, 1 = robust)`, "accuracy, %", {
    shapes: [{ type: "line", x0: lam, x1: lam, y0: 0, y1: 1, yref: "paper", line: { color: ink("faint"), width: 1, dash: "dot" } }],
    xaxis: { ...layout(`${group.dial}  (0 = standard, 1 = robust)`, "").xaxis, range: [-0.04, 1.04] },
    yaxis: { ...layout("", "accuracy, %").yaxis, range: [-2, 103] },
  }));
}

function drawCost() {
  const points = group.runs.flatMap((run) => run.points);
  const informative = points.every((point) => point.flops !== null) && new Set(points.map((point) => point.flops)).size > 1;
  at("cost").parentElement.hidden = !informative;
  if (!informative) return;
  const traces = measuredNow().flatMap(([run, point]) => ["sa", "ra"].map((score) => ({
    x: [point.flops], y: [point[score][0]], error_y: bars([point], score, shade(run, score)), mode: "markers", customdata: [point.lam],
    name: `${run.name}, ${score.toUpperCase()}`, showlegend: false, hovertext: [hoverText(run, point)], hoverinfo: "text",
    marker: { size: 11, color: shade(run, score), symbol: score === "sa" ? "circle" : "square-open" }, meta: "now",
  })));
  const range = [0, 1.08 * Math.max(...points.map((point) => point.flops))];
  draw("cost", traces, layout("FLOPs per image (filled: SA, open: RA)", "accuracy, %", {
    xaxis: { ...layout("FLOPs per image (filled: SA, open: RA)", "").xaxis, range },
    yaxis: { ...layout("", "accuracy, %").yaxis, range: [-2, 103] },
  }));
}

function drawClasses() {
  const traces = measuredNow().flatMap(([run, point]) => !point.classes ? [] : ["sa", "ra"].map((score) => {
    const rows = point.classes[score].map((value) => ({ [score]: value }));
    return {
      x: group.classes, y: rows.map((row) => row[score][0]), error_y: bars(rows, score, shade(run, score)), mode: "markers", meta: "now",
      name: run.lone ? score.toUpperCase() : `${run.name}, ${score.toUpperCase()}`,
      marker: { size: 10, color: shade(run, score), symbol: score === "sa" ? "circle" : "square-open" },
      hovertemplate: "%{x}: %{y:.1f} %",
    };
  }));
  at("classes").parentElement.hidden = traces.length === 0;
  at("class-selection").textContent = group.classes.length < group.of_classes
    ? `: the ${group.classes.length} of ${group.of_classes} with the lowest mean RA` : "";
  if (traces.length) {
    draw("classes", traces, layout("class", "accuracy, % (filled: SA, open: RA)", {
      xaxis: { ...layout("class", "").xaxis, type: "category" }, scattermode: "group",
      yaxis: { ...layout("", "accuracy, % (filled: SA, open: RA)").yaxis, range: [-2, 103] },
    }));
  }
}

// [run, point] of the runs that were measured at this lam.
function measuredNow() {
  const pairs = group.runs.map((run) => [run, pointAt(run, group.lams[now])]);
  return pairs.filter(([, point]) => point !== undefined);
}

function drawTable() {
  at("lam").textContent = `${group.dial} = ${group.lams[now]}`;
  at("slider").setAttribute("aria-valuetext", `${group.dial} ${group.lams[now]}`);
  at("readout").replaceChildren(...group.runs.map((run) => {
    const row = document.createElement("tr");
    const point = pointAt(run, group.lams[now]);
    const cells = point
      ? [formatScore(point.sa), formatScore(point.ra), point.flops === null ? "?" : point.flops.toPrecision(3), point.density.toFixed(3), point.n]
      : [`not measured at this ${group.dial}`, "", "", "", ""];
    row.append(...[`${run.name}${point && point.mark ? ` ${point.mark}` : ""}`, ...cells].map((text) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      return cell;
    }));
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = shade(run, "sa");
    row.firstChild.prepend(swatch);
    return row;
  }));
}

function choose(index) {
  if (index < 0) return;
  now = index;
  at("slider").value = index;
  redraw();
}

function redraw() {
  drawTable();
  drawTrade();
  drawOver();
  drawCost();
  drawClasses();
}

function openGroup(index) {
  const lam = group.lams[now];
  group = GROUPS[index];
  at("how").textContent = group.how;
  for (const each of document.querySelectorAll(".dial")) each.textContent = group.dial;
  at("slider").max = group.lams.length - 1;
  const few = group.lams.length <= 12 ? group.lams : [group.lams[0], group.lams.at(-1)];
  at("ticks").replaceChildren(...few.map((each) => Object.assign(document.createElement("span"), { textContent: each })));
  at("notes").replaceChildren(...group.notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  choose(Math.max(0, group.lams.indexOf(lam)));
}

at("group").replaceChildren(...GROUPS.map((each, index) => new Option(each.attack, index)));
at("group").hidden = GROUPS.length < 2;
at("group").addEventListener("change", (event) => openGroup(Number(event.target.value)));
at("slider").addEventListener("input", (event) => choose(Number(event.target.value)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
openGroup(0);
choose(Math.floor(group.lams.length / 2));
