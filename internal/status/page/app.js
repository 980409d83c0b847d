// The status page of a node: it asks for the state each second, and is told of events.

import { bytes, clock, duration, millis, rate, since } from './format.js';
import { Plot } from './plots.js';
import { Table } from './table.js';

const interval = 1000;
const intervalHidden = 10000;
// How long a node may take to answer before it is taken for one that hangs.
const patience = 5000;
const maxEvents = 256;

const token = new URLSearchParams(location.search).get('token') ?? '';
const query = token === '' ? '' : `?token=${encodeURIComponent(token)}`;
const $ = (id) => document.getElementById(id);

const eventNames = {
  session_up: ['session up', 'good'],
  session_ended: ['session ended', 'bad'],
  carrier_lost: ['connection lost', 'bad'],
  remote_changed: ['another remote', ''],
  session_moving: ['session moves', ''],
  streams_cut: ['streams cut short', 'bad'],
  session_resumed: ['session resumed', 'good'],
  connect_failed: ['connecting failed', 'bad'],
  client_refused: ['client refused', 'bad'],
  reload_failed: ['reload failed', 'bad'],
  reloaded: ['reloaded', 'good'],
  draining: ['shutting down', ''],
};

let now = new Date().toISOString(); // by the clock of the node

const traffic = [
  { title: 'Sent', number: true, value: (t) => t.sent_bytes, text: (t) => bytes(t.sent_bytes) },
  { title: 'Received', number: true, value: (t) => t.received_bytes,
    text: (t) => bytes(t.received_bytes) },
  { title: 'Sending', number: true, value: (t) => t.sent_bytes_per_second,
    text: (t) => rate(t.sent_bytes_per_second) },
  { title: 'Receiving', number: true, value: (t) => t.received_bytes_per_second,
    text: (t) => rate(t.received_bytes_per_second) },
];

const age = { title: 'Age', number: true, value: (x) => since(x.since, now),
  text: (x) => duration(since(x.since, now)) };

// quota returns how much of its quota the client of a session has used today.
function quota({ limits }) {
  if (!limits?.quota_bytes) return '–';
  return `${bytes(limits.quota_used_bytes ?? 0)} of ${bytes(limits.quota_bytes)}`;
}

const sessions = new Table($('sessions'), [
  { title: 'Session', value: (s) => s.id },
  { title: 'Client', long: true, value: (s) => s.comment || s.key },
  { title: 'From', value: (s) => s.from ?? '' },
  { title: 'State', value: (s) => s.state },
  age,
  { title: 'Streams', number: true, value: (s) => s.streams },
  ...traffic,
  { title: 'Quota', number: true, value: (s) => s.limits?.quota_used_bytes ?? 0, text: quota },
], 4, true);

const streams = new Table($('streams'), [
  { title: 'Kind', value: (s) => s.kind },
  { title: 'Target', long: true, value: (s) => s.target || 'any' },
  { title: 'Listener', value: (s) => s.listener ?? '' },
  { title: 'Session', value: (s) => s.session },
  { title: 'State', value: (s) => s.state },
  age,
  ...traffic,
], 9, true);

const throughput = new Plot($('throughput'), ['sent', 'received'], 1000, (n) => rate(n));
const roundTrip = new Plot($('round-trip'), ['trip'], 1e-3, (n) => millis(n));

// list shows names and values; those without a value are left out.
function list(element, pairs) {
  element.replaceChildren(...pairs.filter(([, value]) => value).flatMap(([name, value]) => {
    const dt = document.createElement('dt');
    const dd = document.createElement('dd');
    dt.textContent = name;
    dd.textContent = value;
    return [dt, dd];
  }));
}

function setStatus(text, kind) {
  const pill = $('status');
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${kind}`;
}

// median returns the median of numbers, null if there are none.
function median(numbers) {
  const sorted = numbers.filter((n) => n > 0).sort((a, b) => a - b);
  return sorted.length === 0 ? null : sorted[Math.floor(sorted.length / 2)];
}

function showStatus(state) {
  const connected = state.sessions.filter((s) => s.state === 'carried').length;
  if (state.node.draining) {
    setStatus('shutting down', 'bad');
  } else if (state.node.kind === 'remote') {
    setStatus(`${connected} connected`, 'good');
  } else if (state.carrier) {
    setStatus('connected', 'good');
  } else {
    setStatus(state.sessions.length > 0 ? 'connection lost' : 'not connected', 'bad');
  }
}

function showNode({ node, totals }) {
  document.title = `${node.name} · culvert`;
  $('name').textContent = node.name;
  list($('node'), [
    ['kind', node.kind],
    ['remote', node.remote],
    ['listens', (node.listen ?? []).map((l) => l.address + (l.target ? ` → ${l.target}` : ''))
      .join(', ')],
    ['up for', duration(since(node.started, now))],
    ['carried', `${bytes(totals.sent_bytes)} sent, ${bytes(totals.received_bytes)} received`],
    ['public key', node.public_key],
    ['version', node.version],
  ]);
}

function showCarrier(carrier, kind) {
  $('carrier-section').hidden = kind === 'remote';
  if (!carrier) {
    list($('carrier'), [['connection', 'none']]);
    return;
  }
  list($('carrier'), [
    ['address', carrier.address],
    ['up for', duration(since(carrier.since, now))],
    ['handshake', `version ${carrier.version}, ${carrier.suite}`],
    ['secrecy', carrier.forward_secrecy ? 'forward secrecy' : 'no forward secrecy'],
    ['congestion', carrier.congestion_control],
    ['peer key', carrier.peer_key],
    ['certificate', carrier.certificate &&
      `${carrier.certificate.subject}, until ${carrier.certificate.expires.slice(0, 10)}`],
  ]);
}

function showPlots(state) {
  const { totals } = state;
  const trip = state.carrier ? median([state.carrier.round_trip_seconds ?? 0]) :
    median(state.sessions.map((s) => s.carrier?.round_trip_seconds ?? 0));
  const time = Date.parse(state.time) / 1000;
  throughput.add(time, totals.sent_bytes_per_second, totals.received_bytes_per_second);
  roundTrip.add(time, trip);
  $('sent').textContent = rate(totals.sent_bytes_per_second);
  $('received').textContent = rate(totals.received_bytes_per_second);
  $('trip').textContent = trip === null ? 'unknown' : millis(trip);
  $('trip-name').textContent = state.node.kind === 'remote' ? 'median of sessions' : 'carrier';
}

function show(state) {
  now = state.time;
  showStatus(state);
  showNode(state);
  showCarrier(state.carrier, state.node.kind);
  showPlots(state);
  sessions.show(state.sessions);
  streams.show(state.streams);
  $('sessions-count').textContent = state.sessions.length;
  $('streams-count').textContent = state.streams.length;
}

const shownEvents = new Set(); // their numbers
let droppedEvent = 0; // number of the newest event that is shown no more

// addEvent shows an event behind those that are newer, unless it is shown already or was. It may
// come late: a stream of events begins with what comes next.
function addEvent(event) {
  if (event.seq <= droppedEvent || shownEvents.has(event.seq)) return;
  shownEvents.add(event.seq);
  const [name, kind] = eventNames[event.kind] ?? [event.kind, ''];
  const li = document.createElement('li');
  const time = document.createElement('time');
  const title = document.createElement('b');
  li.className = kind;
  time.dateTime = event.time;
  time.textContent = clock(new Date(event.time));
  title.textContent = name;
  const details = [event.reason, event.comment || event.key, event.from,
    event.session && `session ${event.session}`];
  li.append(time, title, details.filter(Boolean).join(' · '));
  li.value = event.seq;
  const older = [...$('events').children].find((shown) => shown.value < event.seq);
  $('events').insertBefore(li, older ?? null);
  while ($('events').children.length > maxEvents) {
    droppedEvent = $('events').lastChild.value;
    shownEvents.delete(droppedEvent);
    $('events').lastChild.remove();
  }
}

async function poll() {
  try {
    const response = await fetch(`api/state${query}`, { signal: AbortSignal.timeout(patience) });
    if (response.ok) {
      const state = await response.json();
      show(state);
      state.events.forEach(addEvent);
    } else {
      setStatus((await response.text()).trim(), 'bad');
    }
  } catch {
    setStatus('the node does not answer', 'bad');
  }
  setTimeout(poll, document.hidden ? intervalHidden : interval);
}

new EventSource(`api/events${query}`).addEventListener('message', (message) => {
  addEvent(JSON.parse(message.data));
});
poll();
