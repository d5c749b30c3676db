"use strict";
// Fetches status.json each second and shows it. Everything that arrives over the
// network is inserted as text, never as markup.

const PERIOD = 1000; // ms between two requests
const TIMEOUT = 3000; // ms for an answer
const REMEMBERED = 120; // s of the curves
const MINUTE = 60; // s
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// A number for people, with the exact one beside it for programs.
function exact(element, value, text = whole.format(value), unit = "") {
  element.value = String(value);
  element.title = whole.format(value);
  element.replaceChildren(text);
  if (unit) element.append(make("span", "unit", unit));
  return element;
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let power = 0;
  while (value >= 999.5 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return [short.format(value), units[power]];
}

function perSecond(value) {
  return value >= 100 ? whole.format(value) : value.toFixed(value >= 10 || value === 0 ? 0 : 1);
}

function duration(seconds) {
  if (seconds < 1) return `${short.format(seconds * 1000)} ms`;
  if (seconds < 60) return `${short.format(seconds)} s`;
  if (seconds < 3600) return `${short.format(seconds / 60)} min`;
  return `${short.format(seconds / 3600)} h`;
}

function uptime(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const shown = [];
  for (const [size, unit] of parts) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count || shown.length || unit === "s") shown.push(`${count} ${unit}`);
  }
  return shown.slice(0, 2).join(" ");
}

// ---- samples, from which rates follow

let samples = [];

function remember(now) {
  const last = samples[samples.length - 1];
  // Another server, or one that was restarted.
  if (last && (now.started !== last.started || now.uptime <= last.uptime)) samples = [];
  samples.push({
    started: now.started,
    uptime: now.uptime,
    accepted: now.total.accepted,
    bytes: now.total.bytes_echoed,
    live: now.total.live,
    overflows: now.drops ? now.drops.overflows : 0,
    queues: new Map(now.listeners.map((each) => [queueName(each), each.queued || 0])),
  });
  while (samples[0].uptime < now.uptime - REMEMBERED - 2) samples.shift();
}

// The rate between each sample and the one before, as [seconds ago, rate].
function rates(key) {
  const end = samples[samples.length - 1].uptime;
  return samples.slice(1).map((sample, n) => [
    end - sample.uptime,
    Math.max(0, sample[key] - samples[n][key]) / (sample.uptime - samples[n].uptime),
  ]);
}

function overMinute(key) {
  const last = samples[samples.length - 1];
  const first = samples.find((sample) => sample.uptime >= last.uptime - MINUTE - 0.5);
  const time = last.uptime - first.uptime;
  return time > 0 ? Math.max(0, last[key] - first[key]) / time : 0;
}

function inLastMinute() {
  const end = samples[samples.length - 1].uptime;
  return samples.filter((sample) => sample.uptime >= end - MINUTE);
}

// ---- pictures

function trend(name, points, format) {
  const svg = $(`${name}-trend`);
  const width = 240;
  const height = 56;
  const shown = points.filter(([ago]) => ago <= REMEMBERED);
  const most = Math.max(...shown.map(([, value]) => value), 1e-9);
  const place = ([ago, value]) =>
    `${(width * (1 - ago / REMEMBERED)).toFixed(1)},${(height - 2 - (height - 6) * (value / most)).toFixed(1)}`;
  svg.replaceChildren();
  if (shown.length < 2) return;
  $(`${name}-scale`).textContent = most >= 0.1 ? format(most) : "";
  const path = shown.map(place).join("L");
  const start = (width * (1 - shown[0][0] / REMEMBERED)).toFixed(1);
  for (const [name, d] of [["area", `M${start},${height}L${path}L${width},${height}Z`], ["line", `M${path}`]]) {
    const element = document.createElementNS(SVG, "path");
    element.setAttribute("class", name);
    element.setAttribute("d", d);
    svg.append(element);
  }
}

function bar(name, value, most, text) {
  const item = make("li");
  const fill = make("span", "fill");
  fill.style.width = `${(100 * value) / Math.max(most, 1)}%`;
  item.append(fill, make("span", "name", name), exact(make("data"), value, text));
  return item;
}

const queueName = (listener) => `${listener.address} ${listener.socket}`;

function queue(listener, several) {
  const { address, socket, queued, limit } = listener;
  const row = make("div", "queue");
  const line = make("p");
  line.append(make("span", "where", several ? `${address}, socket ${socket}` : address));
  const much = make("span", "much");
  line.append(much);
  row.append(line);
  if (queued === null) {
    much.textContent = "length unknown here";
    return row;
  }
  const percent = (count) => `${limit ? Math.min(100, (100 * count) / limit) : count ? 100 : 0}%`;
  const peak = Math.max(...inLastMinute().map((sample) => sample.queues.get(queueName(listener)) || 0));
  much.append(exact(make("data"), queued), ` waiting, limit ${whole.format(limit)}`);
  if (peak > queued) much.append(`, most ${whole.format(peak)}`);
  const gauge = make("div", "gauge");
  const fill = make("div", "fill");
  const mark = make("div", "peak");
  fill.style.width = percent(queued);
  mark.style.left = percent(peak);
  mark.hidden = peak === 0;
  gauge.append(fill, mark);
  row.append(gauge);
  row.classList.toggle("full", queued >= limit && queued > 0);
  return row;
}

// ---- the sections

function showRates(now) {
  const last = (points) => (points.length ? points[points.length - 1][1] : 0);
  const connections = rates("accepted");
  exact($("rate"), last(connections), perSecond(last(connections)));
  trend("rate", connections, perSecond);
  $("rate-minute").textContent = `${perSecond(overMinute("accepted"))} / s`;
  exact($("accepted"), now.total.accepted);

  const carried = rates("bytes");
  exact($("bytes-rate"), last(carried), ...bytes(last(carried)));
  trend("bytes", carried, (value) => bytes(value).join(" "));
  $("bytes-minute").textContent = `${bytes(overMinute("bytes")).join(" ")} / s`;
  exact($("echoed"), now.total.bytes_echoed, bytes(now.total.bytes_echoed).join(" "));

  exact($("live"), now.total.live);
  trend("live", samples.map((sample) => [now.uptime - sample.uptime, sample.live]), whole.format);
  $("live-most").textContent = whole.format(Math.max(...inLastMinute().map((sample) => sample.live)));
  $("live-limit").textContent = now.max_live ? whole.format(now.max_live) : "none";
  $("live-limit").className = now.max_live && now.total.live >= now.max_live ? "bad" : "";
}

function showQueues(now) {
  const addresses = now.listeners.map((each) => each.address);
  const shared = (address) => addresses.filter((each) => each === address).length > 1;
  $("queues").replaceChildren(
    ...(now.listeners.length
      ? now.listeners.map((each) => queue(each, shared(each.address)))
      : [make("p", "none queue", "No port is open.")]),
  );
  $("drops").hidden = now.drops === null;
  if (now.drops === null) return;
  for (const [id, count] of [["overflows", now.drops.overflows], ["all-drops", now.drops.drops], ["cookies", now.drops.cookies]]) {
    exact($(id), count).classList.toggle("bad", count > 0);
  }
  const rate = overMinute("overflows");
  if (rate > 0) $("overflows").append(` (${perSecond(rate)} / s)`);
}

function showSources(now) {
  const sources = now.total.sources;
  const most = Math.max(...sources.map(([, count]) => count), 1);
  $("sources").replaceChildren(
    ...(sources.length
      ? sources.map(([name, count]) => bar(name, count, most))
      : [make("li", "none", "No connections.")]),
  );
}

function showEnds({ total }) {
  const rows = [
    ["Failed", total.failed, whole.format(total.failed)],
    ["Without a byte", total.silent, whole.format(total.silent)],
    ...Object.entries(total.refused).map(([why, count]) => [`Refused: ${why}`, count, whole.format(count)]),
    ...Object.entries(total.ended).map(([why, count]) => [`Ended: ${why}`, count, whole.format(count)]),
    ["Bytes after the drain deadline", total.bytes_discarded, bytes(total.bytes_discarded).join(" ")],
    ["Bytes not returned (idle)", total.bytes_unreturned, bytes(total.bytes_unreturned).join(" ")],
  ];
  if (total.dropped) rows.push(["Not closed by a stop", total.dropped, whole.format(total.dropped)]);
  const over = total.durations.reduce((sum, each) => sum + each, 0);
  rows.unshift(["Closed", over, whole.format(over)]);
  $("ends").replaceChildren(
    ...rows.flatMap(([name, value, text]) => {
      const shown = make("dd");
      shown.append(exact(make("data"), value, text));
      return [make("dt", "", name), shown];
    }),
  );
}

function showDurations(now) {
  const bounds = now.duration_bounds;
  const counts = now.total.durations;
  const most = Math.max(...counts, 1);
  // Without the empty buckets at either end.
  const used = counts.map((count, n) => (count ? n : -1)).filter((n) => n >= 0);
  const items = [];
  for (let n = used[0]; n <= used[used.length - 1]; n += 1) {
    const name = n < bounds.length ? `up to ${duration(bounds[n])}` : `over ${duration(bounds[n - 1])}`;
    items.push(bar(name, counts[n], most));
  }
  $("durations").replaceChildren(...(items.length ? items : [make("li", "none", "None closed yet.")]));
}

function showProcesses(now) {
  $("processes").replaceChildren(
    ...now.processes.map(({ name, pid, answering, report }) => {
      const row = make("tr");
      const cell = make("td", "", name);
      if (answering) cell.append(make("small", "", `pid ${pid}`));
      else cell.append(make("small", "bad", pid ? `pid ${pid} does not answer` : "restarting"));
      row.append(cell);
      for (const text of [whole.format(report.live), whole.format(report.accepted), duration(report.max_lag)]) {
        row.append(make("td", "", text));
      }
      return row;
    }),
  );
}

function showSettings({ settings, build }) {
  $("settings").replaceChildren(
    ...Object.entries(settings).map(([name, value]) => {
      const row = make("div");
      row.append(make("dt", "", name), make("dd", "", value));
      return row;
    }),
  );
  $("build").textContent = `echoproto ${build.version}, Twisted ${build.twisted}, Python ${build.python}`;
}

// What needs an operator's attention although the server serves.
function troubles(now) {
  const found = [];
  for (const { name, pid, answering } of now.processes) {
    if (!answering) found.push(pid ? `${name} does not answer.` : `${name} has ended and is restarting.`);
  }
  if (now.listeners.some(({ queued, limit }) => queued > limit)) found.push("An accept queue is full.");
  if (now.max_live && now.total.live >= now.max_live) found.push(`Connection limit reached (${whole.format(now.total.live)} of ${whole.format(now.max_live)}). New clients are queued.`);
  return found;
}

function showState(now) {
  const count = now.total.live;
  const left = `${whole.format(count)} connection${count === 1 ? "" : "s"} left`;
  let [state, words, trouble] = ["serving", "Serving", ""];
  if (now.draining) {
    const open = now.listening ? " New connections are still accepted." : " The ports are closed.";
    [state, words, trouble] = ["draining", "Draining", `Draining: ${left}.${open}`];
  } else if (now.not_ready) {
    [state, words, trouble] = ["unready", "Not ready", `Not ready: ${now.not_ready}.`];
  } else {
    trouble = troubles(now).join(" ");
  }
  say(state, words, trouble);
  $("up").textContent = `up ${uptime(now.uptime)}`;
  document.title = `${words} – ${whole.format(count)} open – echoproto`;
}

function say(state, words, trouble) {
  document.body.dataset.state = state;
  if ($("state").textContent !== words) $("state").textContent = words;
  if ($("trouble").textContent !== trouble) $("trouble").textContent = trouble;
  $("trouble").hidden = !trouble;
}

function show(now) {
  remember(now);
  showRates(now);
  showQueues(now);
  showSources(now);
  showEnds(now);
  showDurations(now);
  showProcesses(now);
  showSettings(now);
  showState(now);
}

// ---- requests

let answered = Date.now();
let asking = false;

async function fetchStatus() {
  const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

async function ask() {
  setTimeout(ask, PERIOD);
  if (asking) return;
  asking = true;
  const now = await fetchStatus().catch(() => null);
  asking = false;
  if (now) {
    answered = Date.now();
    show(now);
    return;
  }
  const seconds = Math.round((Date.now() - answered) / 1000);
  say("silent", "No answer", `The server has not answered for ${seconds} s. The figures are older.`);
  document.title = "No answer – echoproto";
}

ask();
