"use strict";
// Tabs, figures with their legends, and what words mean. The figures are plotly's; everything that can
// be pressed is a button, a checkbox or a <details>, so that it works with a keyboard and is read aloud.
const figures = JSON.parse(document.getElementById("figure-data").textContent);
const byId = id => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];
const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

function start() {
  for (const tab of tabs) {
    tab.onclick = () => { history.pushState(null, "", `#${tab.dataset.tab.toLowerCase()}`); showAddressed(); };
    tab.onkeydown = event => {
      const step = {ArrowRight: 1, ArrowLeft: -1, Home: -tabs.indexOf(tab), End: tabs.length - 1 - tabs.indexOf(tab)}[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.click();
      next.focus();
    };
  }
  addEventListener("popstate", showAddressed);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const place of document.querySelectorAll(".figure.js-plotly-plot")) Plotly.relayout(place, themed(place.layout));
  });
  explainTerms();
  showAddressed();
}

// the tab that the address names, or the first
function showAddressed() {
  const name = decodeURIComponent(location.hash.slice(1)).toLowerCase();
  show((tabs.find(tab => tab.dataset.tab.toLowerCase() === name) ?? tabs[0]).dataset.tab);
}

function show(name) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", tab.dataset.tab === name);
    tab.tabIndex = tab.dataset.tab === name ? 0 : -1;
  }
  for (const section of document.querySelectorAll("section")) section.hidden = section.dataset.tab !== name;
  // a figure is drawn when it is first looked at
  for (const place of document.querySelectorAll(`section[data-tab="${name}"] .figure:empty`)) draw(place);
  if (name === "Questions") openQuestions();
}

function draw(place) {
  const {data, layout} = figures[place.dataset.figure];
  const narrow = place.clientWidth < 450;
  const margin = {...layout.margin, ...(narrow ? {l: 48, r: 6} : {})};
  Plotly.newPlot(place, data, {...themed(layout), margin, showlegend: false},
    {responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover"});
  if (layout.showlegend && data.filter(trace => trace.name).length > 1) addLegend(place, data);
}

// the page's colours; those of methods are the figure's own
function themed(layout) {
  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const made = {...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: color("--text")}};
  for (const name of Object.keys(layout).filter(name => /^[xy]axis/.test(name)))
    made[name] = {...layout[name], gridcolor: color("--line"), zerolinecolor: color("--line"), automargin: true};
  return made;
}

// a checkbox for each curve; those that are not drawn at first can be unfolded
function addLegend(place, data) {
  const legend = place.nextElementSibling, others = element("details");
  data.forEach((trace, i) => {
    if (!trace.name) return;
    const label = element("label"), box = element("input"), swatch = element("i", undefined, "swatch");
    box.type = "checkbox";
    box.checked = trace.visible !== "legendonly";
    box.onchange = () => Plotly.restyle(place, {visible: box.checked ? true : "legendonly"}, [i]);
    swatch.style.background = [trace.line?.color, trace.marker?.color].find(color => typeof color === "string") ?? "gray";
    label.append(box, swatch, trace.name);
    (box.checked ? legend : others).append(label);
  });
  if (others.childElementCount) {
    others.prepend(element("summary", `${others.childElementCount} more`));
    legend.append(others);
  }
}

// what a word means, beside it, while it is pointed at or has the focus
function explainTerms() {
  const tip = byId("tip");
  const open = event => {
    const term = event.target.closest?.("[data-about]");
    if (!term) return;
    tip.textContent = term.dataset.about;
    tip.hidden = false;
    term.setAttribute("aria-describedby", "tip");
    const place = term.getBoundingClientRect(), below = place.bottom + tip.offsetHeight + 8 < innerHeight;
    tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${below ? place.bottom + 5 : place.top - tip.offsetHeight - 5}px`;
  };
  const close = () => { tip.hidden = true; };
  for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, open);
  for (const kind of ["mouseout", "focusout", "scroll"]) document.addEventListener(kind, close, true);
  document.addEventListener("keydown", event => { if (event.key === "Escape") close(); });
}
