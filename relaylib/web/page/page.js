/* The page of the relay: plays the stream, and shows what the relay tells (docs/STATUS.md).

   In this order: texts; what makes elements; what the relay tells (`Feed`); what shows it; the graph;
   two players (`LiveMp4`, `NativeHls`); their controls.

   All addresses are relative: the page may be in a folder behind a proxy. Nothing that the relay
   tells is ever read as HTML. */

// --- texts

const TEXTS = {
  es: {
    title: "Relay de vídeo", skip: "Saltar el vídeo", picture: "Imagen en directo",
    controls: "Controles del vídeo", play: "Reproducir", pause: "Pausar", mute: "Silenciar",
    full: "Pantalla completa", seek: "Posición en el historial", live: "En directo",
    goLive: "Ir al directo", behind: "{0} segundos atrás",
    verdict: "Veredicto", stream: "Flujo", bitrate: "Tasa de entrada",
    errorsASecond: "Errores por segundo", watch: "Ver en VLC", viewers: "Espectadores",
    word_healthy: "Sano", means_healthy: "No falta nada: el flujo llega y sale entero.",
    word_source: "Fuente", word_silent: "Fuente parada", means_silent: "La fuente ha dejado de emitir.",
    means_source: "El fallo está antes del relay: en la fuente, o en el camino hasta aquí.",
    word_relay: "Relay", means_relay: "Este relay, o su máquina, pierde o retrasa datos.",
    word_network: "Red", means_network: "El camino hacia algunos espectadores no admite todo el flujo.",
    word_silence: "Silencio", means_silence: "Ahora no llega ningún flujo.",
    word_absent: "Sin fuente", means_absent: "Ninguna fuente ha enviado nada todavía.",
    word_active: "Activa", means_active: "Llega un flujo; este relay no lo examina.",
    word_unknown: "Sin contacto", means_unknown: "El relay no responde. Se sigue intentando.",
    remedy: "Remedio:", since: "desde hace {0}",
    connected: "Al día", connecting: "Conectando…", lostContact: "Sin contacto; reintentando…",
    source: "Fuente", noSource: "ninguna", sourceSilent: "en silencio", sourceActive: "activa",
    form: "Forma", rtp: "MPEG-TS en RTP", rtp_other: "RTP sin MPEG-TS (tipo {0})", ts: "MPEG-TS sin RTP", opaque: "desconocida",
    video: "Vídeo", audio: "Sonido", now: "Llega ahora", lost: "Errores",
    datagrams: "{0} datagramas/s", none: "ninguno",
    lostNames: "perdidos", overflowed: "desbordados", access: "Acceso cada",
    history: "Historial", egress: "Sale ahora", uptime: "En marcha", version: "versión {0}",
    jitter: "Jitter",
    openVlc: "Abra en VLC (Medio, Abrir ubicación de red):",
    askRelay: "Pídalo al relay desde la misma máquina, y escriba CONECTAR 5004:",
    orClient: "o con el cliente del relay:",
    watchHttp: "Si UDP no llega (Wi-Fi, NAT), abra una de estas direcciones:",
    copy: "Copiar", copied: "Copiado", copyName: "Copiar {0}",
    kind: "Tipo", where: "Destino", state: "Estado", delay: "Retraso", rate: "Tasa",
    drops: "Perdidos", time: "Tiempo", udp: "UDP", fixed: "Fija", http: "HTTP",
    idle: "En espera", streaming: "Recibe", paused: "En pausa", deferred: "En diferido",
    unreachable: "No llega", noViewers: "Ahora mismo no hay espectadores.",
    viewersCount: "{0} UDP, {1} fijas, {2} HTTP", viewersShown: "se muestran {0} de {1}",
    waitSource: "Ninguna fuente está emitiendo",
    waitSourceMore: "La imagen empezará sola en cuanto emita una.",
    waitStream: "Preparando la imagen…", stalled: "La señal se ha interrumpido",
    retrying: "Se sigue intentando.", opaqueText: "Este flujo no es MPEG-TS",
    sendMpegTs: "Nadie puede reproducirlo así. En la fuente, emita MPEG-TS: rtp_mpegts en ffmpeg.",
    opaqueMore: "Un navegador no puede mostrarlo. Por UDP llega tal cual.",
    unplayable: "Los navegadores no reproducen {0}",
    unplayableHere: "Este navegador no reproduce {0}",
    unplayableMore: "VLC sí. Abra una de estas direcciones:",
    noPlayer: "Este navegador no puede reproducir el directo",
    leftOut: "Sin sonido aquí: los navegadores no reproducen {0}. VLC sí.",
    graphText:
      "Tasa de entrada en los últimos {0} minutos: ahora {1} Mb/s, mínimo {2}, máximo {3}. Errores: {4}.",
    graphEmpty: "Todavía sin datos", minutesAgo: "−{0} min", nowMark: "ahora",
  },
  en: {
    title: "Video relay", skip: "Skip the video", picture: "Live picture",
    controls: "Video controls", play: "Play", pause: "Pause", mute: "Mute",
    full: "Full screen", seek: "Position in the history", live: "Live",
    goLive: "Go live", behind: "{0} seconds ago",
    verdict: "Verdict", stream: "Stream", bitrate: "Incoming bitrate",
    errorsASecond: "Errors per second", watch: "Watch in VLC", viewers: "Viewers",
    word_healthy: "Healthy", means_healthy: "Nothing is missing: the stream comes in and goes out whole.",
    word_source: "Source", word_silent: "Source silent", means_silent: "The source has stopped sending.",
    means_source: "The fault is before the relay: in the source, or on the way from there.",
    word_relay: "Relay", means_relay: "This relay, or its machine, drops or delays data.",
    word_network: "Network", means_network: "The path to some viewers does not take the whole stream.",
    word_silence: "Silence", means_silence: "No stream is coming in now.",
    word_absent: "No source", means_absent: "No source has sent anything yet.",
    word_active: "Active", means_active: "A stream is coming in; this relay does not inspect it.",
    word_unknown: "No contact", means_unknown: "The relay does not answer. Still trying.",
    remedy: "Remedy:", since: "for {0}",
    connected: "Up to date", connecting: "Connecting…", lostContact: "No contact; retrying…",
    source: "Source", noSource: "none", sourceSilent: "silent", sourceActive: "active",
    form: "Form", rtp: "MPEG-TS in RTP", rtp_other: "RTP without MPEG-TS (payload type {0})", ts: "MPEG-TS without RTP", opaque: "unknown",
    video: "Video", audio: "Sound", now: "Coming in", lost: "Errors",
    datagrams: "{0} datagrams/s", none: "none",
    lostNames: "lost", overflowed: "overflowed", access: "Entry every",
    history: "History", egress: "Going out", uptime: "Running for", version: "version {0}",
    jitter: "Jitter",
    openVlc: "Open in VLC (Media, Open Network Stream):",
    askRelay: "Ask the relay for it from the same machine, and type CONECTAR 5004:",
    orClient: "or with the relay's client:",
    watchHttp: "Without a UDP path (Wi-Fi, NAT), open one of these addresses:",
    copy: "Copy", copied: "Copied", copyName: "Copy {0}",
    kind: "Kind", where: "Destination", state: "State", delay: "Delay", rate: "Rate",
    drops: "Drops", time: "Time", udp: "UDP", fixed: "Fixed", http: "HTTP",
    idle: "Waiting", streaming: "Streaming", paused: "Paused", deferred: "Deferred",
    unreachable: "Unreachable", noViewers: "Nobody is watching at the moment.",
    viewersCount: "{0} UDP, {1} fixed, {2} HTTP", viewersShown: "{0} of {1} shown",
    waitSource: "No source is sending",
    waitSourceMore: "The picture starts by itself as soon as one does.",
    waitStream: "Preparing the picture…", stalled: "The signal has been interrupted",
    retrying: "Still trying.", opaqueText: "This stream is not MPEG-TS",
    sendMpegTs: "Nobody can play it like this. At the source, send MPEG-TS: rtp_mpegts in ffmpeg.",
    opaqueMore: "A browser cannot show it. By UDP it comes as it is.",
    unplayable: "Browsers do not play {0}",
    unplayableHere: "This browser does not play {0}",
    unplayableMore: "VLC does. Open one of these addresses:",
    noPlayer: "This browser cannot play the live stream",
    leftOut: "No sound here: browsers do not play {0}. VLC does.",
    graphText:
      "Incoming bitrate over the last {0} minutes: now {1} Mb/s, lowest {2}, highest {3}. Errors: {4}.",
    graphEmpty: "No data yet", minutesAgo: "−{0} min", nowMark: "now",
  },
};

/** Sentences for the keys of evidence and remedies (relaylib/media/verdict.py); the log's are in
    relaylib/media/catalogue.py. {name} is a value. */
const SENTENCES = {
  es: {
    no_source: "ninguna fuente emite",
    stopped: "{source} ha dejado de emitir",
    buffer_full:
      "el búfer de recepción estaba lleno: {dropped} datagramas descartados en los últimos {window} s",
    stood_still: "el relay estuvo parado {seconds} s",
    left_out: "el relay no tuvo tiempo de leer {datagrams} datagramas para quienes ven por HTTP "
      + "en los últimos {window} s",
    no_room_out: "ninguna de las {outputs} salidas admitió todo en los últimos {window} s",
    no_mpeg_ts: "RTP sin MPEG-TS (tipo {payload_type})",
    turned_away: "se rechazaron {datagrams} datagramas de otro puerto del host de la fuente en los "
      + "últimos {window} s, mientras ella callaba",
    missing: "antes del relay, en los últimos {window} s: {counts}",
    outputs_full: "{full} de {outputs} salidas no admitieron todo en los últimos {window} s",
    nothing_missing: "no faltó nada en los últimos {window} s",
    cannot_tell: "llegan datagramas; en un flujo de forma desconocida no se sabe si faltan",
    inherited: "hallado antes de recargar el relay",
    look_at_source: "mire la fuente: ¿está en marcha, y emite a la dirección y al puerto UDP de entrada?",
    larger_buffer: "sysctl -w net.core.rmem_max={bytes}, y recargue",
    less_work: "menos espectadores, o un --coalesce mayor: el búfer ya es todo lo grande que se pidió",
    find_what_stopped:
      "averigüe qué paró el proceso: una señal, el intercambio a disco, una máquina sobrecargada",
    more_room_out:
      "menos espectadores, una tasa menor, o un enlace de salida más rápido; --max-egress",
    better_path: "una tasa menor, o un enlace mejor hasta esos espectadores",
    look_before: "revise el codificador, y la red desde él hasta el relay",
    send_mpeg_ts: "emita rtp_mpegts",
    keep_the_port: "que el emisor conserve su puerto local (ffmpeg: localport=), o dé al relay un "
      + "--source-timeout menor",
    lighten: "menos espectadores, una tasa menor, o una máquina más rápida",
    rtp_lost: "paquetes RTP perdidos",
  },
  en: {
    no_source: "no source sends",
    stopped: "{source} has stopped sending",
    buffer_full: "the receive buffer was full: {dropped} datagrams dropped in the last {window} s",
    stood_still: "the relay stood still for {seconds} s",
    left_out: "the relay had no time to read {datagrams} datagrams for viewers by HTTP in the last "
      + "{window} s",
    no_room_out: "none of {outputs} outputs could take everything in the last {window} s",
    no_mpeg_ts: "RTP without MPEG-TS (payload type {payload_type})",
    turned_away: "{datagrams} datagrams from another port of the source's host were turned away in "
      + "the last {window} s, while the source was quiet",
    missing: "before the relay in the last {window} s: {counts}",
    outputs_full: "{full} of {outputs} outputs could not take everything in the last {window} s",
    nothing_missing: "nothing was missing in the last {window} s",
    cannot_tell: "datagrams come; whether some are missing cannot be told in a stream of unknown form",
    inherited: "found before the relay was reloaded",
    look_at_source:
      "look at the source: does it run, and send to the address and UDP port of the ingest?",
    larger_buffer: "sysctl -w net.core.rmem_max={bytes}, then reload",
    less_work: "fewer viewers, or a larger --coalesce: the buffer is as large as asked",
    find_what_stopped:
      "find out what stopped the process: a signal, swapping, a machine that is overloaded",
    more_room_out: "fewer viewers, a lower bitrate, or a faster link out of this machine; --max-egress",
    better_path: "a lower bitrate, or a better link to those viewers",
    look_before: "look at the encoder, and at the network from there to the relay",
    send_mpeg_ts: "send rtp_mpegts",
    keep_the_port: "let the sender keep its local port (ffmpeg: localport=), or give the relay a "
      + "lower --source-timeout",
    lighten: "fewer viewers, a lower bitrate, or a faster machine",
    rtp_lost: "RTP packets lost",
  },
};

const language = (navigator.languages?.[0] ?? navigator.language ?? "").startsWith("es") ? "es" : "en";

function text(key, ...values) {
  return TEXTS[language][key].replace(/\{(\d)\}/g, (_, at) => values[at]);
}

/** The sentence for evidence or a remedy; "" where there is none, or another version alone has it. */
function sentence(told) {
  const known = told && SENTENCES[language][told.key];
  if (!known) return "";
  const shown = (value) => (typeof value === "number" && value % 1 ? plain.format(value) : value);
  const values = told.key === "missing" ? counted(told.values) : told.values;
  return known.replace(/\{(\w+)\}/g, (_, name) => shown(values[name] ?? ""));
}

function counted({ window, ...found }) {
  const named = ([name, count]) => `${count} ${SENTENCES[language][name] ?? errorName(name)}`;
  return { window, counts: Object.entries(found).map(named).join(", ") };
}

/** A name of TR 101 290 in plain words. */
const errorName = (key) => key.replace(/_indicator|_error(_2)?$/g, "").replaceAll("_", " ");

const numbers = [0, 1, 2].map((digits) => new Intl.NumberFormat(language, {
  minimumFractionDigits: digits, maximumFractionDigits: digits }));
const number = (value, digits = 0) => numbers[digits].format(value);
const plain = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
const megabits = (bits) => number(bits / 1e6, bits && bits < 1e6 ? 2 : 1);
const rate = (bits) => (bits == null ? "–" : `${megabits(bits)} Mb/s`);

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

/** Where there is little room: 2:35, 1:02:35. */
function clock(seconds) {
  const s = Math.round(seconds);
  if (s >= 86400) return duration(s);
  const pair = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(s / 60);
  const hours = s < 3600 ? minutes : `${Math.floor(minutes / 60)}:${pair(minutes % 60)}`;
  return `${hours}:${pair(s % 60)}`;
}

// --- elements

const $ = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Writes only what is new: a screen reader, and a selection, stay where they are. */
function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function label(element, words) {
  if (element.getAttribute("aria-label") !== words) element.setAttribute("aria-label", words);
}

function copyable(words) {
  const code = make("code", {}, ...words.split(/(?<=[/ ])/).flatMap((part) => [part, make("wbr")]));
  const button = make("button", { type: "button", "aria-label": text("copyName", words) }, text("copy"));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(words); // only there with HTTPS, or on localhost
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    say(button, text("copied"));
    say($("said"), text("copied"));
    setTimeout(() => { say(button, text("copy")); say($("said"), ""); }, 2000);
  });
  return make("div", { class: "copy" }, code, button);
}

const address = (path) => new URL(path, document.baseURI).href;

// --- what the relay tells

/** Keeps the newest status, and five minutes of series; calls `show` with each, or null: no contact. */
class Feed {
  static SECONDS = 300;
  static PATIENCE = 5000;

  constructor(show) {
    this.show = show;
    this.status = null;
    this.bits = [];
    this.errors = [];
    this.end = 0;
    this.heard = performance.now();
    this.open();
    setInterval(() => this.check(), 1000);
  }

  open() {
    this.source = new EventSource("events");
    this.source.addEventListener("status", (event) => this.take(JSON.parse(event.data)));
    this.source.addEventListener("error", () => {
      this.lost = true;
      say($("connection"), text("lostContact"));
    });
  }

  take(status) {
    this.heard = performance.now();
    this.lost = false;
    this.status = status;
    this.merge(status.series);
    this.show(status);
  }

  /** Puts new points, one a second, behind those we have, or in their place; between them is null. */
  merge({ end, bitrate, errors }) {
    this.end ||= end - bitrate.length;
    const missing = end - this.end - bitrate.length; // seconds; below 0: that are told again
    const kept = (old) => (missing < 0 ? old.slice(0, missing) : old);
    const hole = Array(Math.max(0, Math.min(missing, Feed.SECONDS))).fill(null);
    const join = (old, added) => [...kept(old), ...hole, ...added].slice(-Feed.SECONDS);
    this.bits = join(this.bits, bitrate);
    this.errors = join(this.errors, errors);
    this.end = end;
  }

  /** Asks in another way where events do not come through, and begins anew where they ended. */
  async check() {
    if (performance.now() - this.heard < Feed.PATIENCE || this.asking) return;
    this.asking = true;
    try {
      const signal = AbortSignal.timeout(4000);
      const response = await fetch("status.json", { cache: "no-store", signal });
      if (!response.ok) throw new Error(response.status);
      this.take(await response.json());
    } catch {
      this.status = null;
      this.show(null);
    }
    if (this.source.readyState === EventSource.CLOSED) this.open();
    setTimeout(() => { this.asking = false; }, 2000);
  }
}

// --- showing it

const TONES = { healthy: "good", active: "good", source: "bad", relay: "bad", network: "warn",
  silence: "idle", silent: "idle", absent: "idle", unknown: "idle" };
const SIGNS = {
  good: "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18M8 12.4l2.8 2.8L16 9.6",
  warn: "M12 3.5L22 20.5H2zM12 10v5M12 17.6v.2",
  bad: "M8.2 3h7.6L21 8.2v7.6L15.8 21H8.2L3 15.8V8.2zM9 9l6 6M15 9l-6 6",
  idle: "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18M8 12h8",
};

function showVerdict(status) {
  const known = status && status.verdict.word in TONES;
  const word = known ? status.verdict.word : "unknown";
  $("verdict").dataset.word = word;
  $("verdict").dataset.tone = TONES[word];
  $("verdict-sign").setAttribute("d", SIGNS[TONES[word]]);
  say($("verdict-word"), text(`word_${word}`));
  say($("verdict-meaning"), text(`means_${word}`));
  const since = status?.verdict.since;
  say($("verdict-since"), since ? text("since", duration(status.now - since)) : "");
  const evidence = sentence(status?.verdict.evidence);
  const remedy = sentence(status?.verdict.remedy);
  say($("verdict-evidence"), word === "healthy" ? "" : evidence);
  say($("verdict-remedy"), remedy && `${text("remedy")} ${remedy}`);
}

function codecs(status, kind) {
  const streams = (status?.stream.programs ?? []).flatMap((program) => program.streams);
  return streams.filter((stream) => stream.kind === kind && stream.codec);
}

function picture({ codec, width, height, fps }) {
  const size = width && height ? `, ${width}\u00a0×\u00a0${height}` : "";
  return codec + size + (fps ? `, ${number(fps, fps % 1 ? 2 : 0)}\u00a0fps` : "");
}

function wrong({ tr_101_290: found, lost }, { overflowed }) {
  const named = [[lost, text("lostNames")], [overflowed, text("overflowed")],
    ...Object.entries(found).map(([key, count]) => [count, errorName(key)])];
  return named.filter(([count]) => count).map(([count, words]) => `${number(count)} ${words}`);
}

/** Each is a name and what to show: words, and smaller ones below. Empty words hide it. */
const FACTS = {
  source: ({ source }) => [source.address ?? text("noSource"),
    source.address ? text(source.presence === "active" ? "sourceActive" : "sourceSilent") : ""],
  form: ({ source }) => [source.form ? text(source.form, source.payload_type ?? "?") : ""],
  video: (status) => codecs(status, "video").map(picture),
  audio: (status) => [codecs(status, "audio").map(({ codec }) => codec).join(", ")],
  now: ({ stream }) => [rate(stream.bitrate_10s), text("datagrams", number(stream.datagrams_s))],
  access: ({ stream }) => [stream.random_access_s ? `${number(stream.random_access_s, 1)} s` : ""],
  jitter: ({ stream }) => {
    const jitter = stream.rtp_jitter_ms ?? stream.pcr_jitter_ms;
    return [jitter == null ? "" : `${number(jitter, 1)} ms`];
  },
  lost: ({ errors, totals }) => {
    const [first, ...others] = wrong(errors, totals);
    return [first ?? text("none"), others.join(", ")];
  },
  history: ({ history }) => [history.seconds ? duration(history.seconds) : "",
    `${number(history.bytes / 1e6, 1)} MB`],
  egress: ({ egress }) => [rate(egress.bitrate)],
  uptime: (status) => [duration(status.uptime_s), text("version", status.relay.version)],
};

function showFacts(status) {
  for (const [key, tell] of Object.entries(FACTS)) {
    const [term, value] = facts[key];
    const [words = "", more = ""] = tell(status);
    term.hidden = value.hidden = !words;
    say(value.firstChild, words);
    say(value.lastChild, more);
  }
}

const facts = {};
for (const key of Object.keys(FACTS)) {
  facts[key] = [make("dt", { id: `fact-${key}-name` }, text(key)),
    make("dd", { id: `fact-${key}` }, make("span"), make("small"))];
  $("stream").append(...facts[key]);
}

/** Columns of the viewers' table, and the words of their cells; `LAYOUT` has classes other than "right". */
const COLUMNS = {
  kind: (viewer) => text(viewer.kind),
  where: ({ kind, client, destination }) =>
    (kind === "http" ? `${client} → ${destination}` : destination ?? client ?? "–"),
  state: (viewer) => text(viewer.state),
  delay: (viewer) => (viewer.delay_s == null ? "–" : `${number(viewer.delay_s, 1)} s`),
  rate: (viewer) => rate(viewer.bitrate),
  drops: (viewer) => number(viewer.dropped),
  time: (viewer) => clock(viewer.seconds),
};
const LAYOUT = { kind: "kind", where: "where", state: "how" };
const STATES = { streaming: "good", deferred: "good", paused: "warn", unreachable: "bad" };
const rows = new Map();

function newRow() {
  const row = make("div", { role: "row", class: "row" });
  for (const key of Object.keys(COLUMNS)) {
    const cell = make("div", { role: "cell", class: `cell ${LAYOUT[key] ?? "right"}` });
    if (!(key in LAYOUT)) cell.dataset.name = text(key);
    if (key === "state") cell.append(make("span", { class: "state" }, make("i"), make("span")));
    row.append(cell);
  }
  return row;
}

function showViewer(viewer) {
  if (!rows.has(viewer.id)) rows.set(viewer.id, newRow());
  const row = rows.get(viewer.id);
  row.dataset.state = viewer.state;
  Object.values(COLUMNS).forEach((tell, at) => {
    const cell = row.children[at];
    const mark = cell.querySelector(".state");
    if (mark) mark.dataset.tone = STATES[viewer.state] ?? "";
    say(mark ? mark.lastChild : cell, tell(viewer));
  });
  return row;
}

const heads = Object.keys(COLUMNS).map((key) =>
  make("div", { role: "columnheader", class: `cell ${LAYOUT[key] ?? "right"}` }, text(key)));
const header = make("div", { role: "row", class: "row head" }, ...heads);

function showViewers({ total, counts, list }) {
  const sum = (kind) => Object.values(counts[kind] ?? {}).reduce((all, count) => all + count, 0);
  const shown = list.length < total ? `; ${text("viewersShown", list.length, total)}` : "";
  say($("viewers-count"), text("viewersCount", ...["udp", "fixed", "http"].map(sum)) + shown);
  $("viewers-count").dataset.total = total;
  $("viewers").hidden = !list.length;
  $("no-viewers").hidden = list.length > 0;
  const wanted = [header, ...list.map(showViewer)];
  const here = [...$("viewers").children];
  if (wanted.length !== here.length || wanted.some((row, at) => row !== here[at])) {
    $("viewers").replaceChildren(...wanted);
  }
  const ids = new Set(list.map(({ id }) => id));
  for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
}

let directions = ["udp://@:5004", address("live.ts")]; // to open in a player
let watched = "";

function showWatch({ watch, source }) {
  const host = watch.host ?? location.hostname.replace(/^\[|\]$/g, "");
  const player = `${source.form === "rtp" ? "rtp" : "udp"}://@${host.includes(":") ? "[::]" : ""}:5004`;
  const key = `${player} ${host} ${watch.control_port}`;
  if (key === watched) return;
  watched = key;
  const line = (words) => make("div", { class: "copies" }, copyable(words));
  const relay = `${host} ${watch.control_port}`;
  $("steps").replaceChildren(
    make("li", {}, text("openVlc"), line(player)),
    make("li", {}, text("askRelay"), line(`nc ${relay}`),
      make("p", { class: "quiet" }, text("orClient")), line(`python3 client.py ${relay} 5004 --vlc`)));
  $("addresses").replaceChildren(copyable(address("live.ts")), copyable(address("live.m3u8")));
  directions = [player, address("live.ts")];
}
function show(status) {
  showVerdict(status);
  say($("connection"), text(status ? "connected" : "lostContact"));
  if (!status) return;
  say($("bitrate"), megabits(status.stream.bitrate));
  $("bitrate").dataset.bits = status.stream.bitrate;
  showFacts(status);
  showViewers(status.viewers);
  showWatch(status);
  draw();
}

// --- the graph: bitrate as a line, errors as bars below it, on one axis of time

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, words = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = words;
  return element;
}

/** The least of 1, 2, 2.5, 5 times a power of ten that is not below. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= value * 0.999);
}

/** Points of a line that breaks where a value is not known. */
function line(values, x, y) {
  let pen = "M";
  return values.map((value, at) => {
    if (value == null) { pen = "M"; return ""; }
    const step = `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
    return step;
  }).join("");
}

function draw() {
  const { width, height } = $("graph").getBoundingClientRect();
  if (!width) return;
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const known = feed.bits.filter((value) => value != null);
  const floor = height - 1.5 * rem; // of the errors
  const frame = {
    rem, height, floor,
    left: 2.75 * rem,
    right: width - 0.5 * rem,
    base: floor - 3 * rem, // of the line
    strip: 2.25 * rem, // height of the errors
    top: ceiling(Math.max(9e5, ...known) * 1.08),
    most: Math.max(0, ...feed.errors),
  };
  const first = Feed.SECONDS - feed.bits.length;
  frame.x = (at) => frame.left + (first + at) / (Feed.SECONDS - 1) * (frame.right - frame.left);
  frame.y = (bits) => frame.base - bits / frame.top * (frame.base - 0.75 * rem);
  $("graph").replaceChildren(...axes(frame), ...bitrateLine(frame, known), ...errorBars(frame));
  label($("graph"), summary(known));
}

function summary(known) {
  if (!known.length) return text("graphEmpty");
  const errors = feed.errors.reduce((all, count) => all + count, 0);
  const told = [known.at(-1), Math.min(...known), Math.max(...known)].map(megabits);
  return text("graphText", Feed.SECONDS / 60, ...told, number(errors));
}

function axes({ rem, height, left, right, floor, strip, top, most, y }) {
  const rule = (at) => {
    const y1 = Math.round(at) + 0.5;
    return shape("line", { class: "rule", x1: left, x2: right, y1, y2: y1 });
  };
  const mark = (at, words, name = "") => shape("text",
    { class: name, x: left - 0.5 * rem, y: at + 0.25 * rem, "text-anchor": "end" }, words);
  const parts = [rule(floor)];
  if (most) parts.push(mark(floor - strip + 0.35 * rem, number(most), "most"));
  for (const bits of [0, top / 2, top]) parts.push(rule(y(bits)), mark(y(bits), plain.format(bits / 1e6)));
  const minutes = Feed.SECONDS / 60;
  for (let minute = 0; minute <= minutes; minute += right < 26 * rem ? 2 : 1) {
    const anchor = minute === 0 ? "end" : minute === minutes ? "start" : "middle";
    const x = right - minute / minutes * (right - left);
    parts.push(shape("text", { x, y: height - 0.25 * rem, "text-anchor": anchor },
      minute ? text("minutesAgo", minute) : text("nowMark")));
  }
  return parts;
}

function bitrateLine({ base, x, y }, known) {
  const path = line(feed.bits, x, y);
  const curve = shape("path", { class: "bits", d: path });
  if (!known.length || known.length < feed.bits.length) return [curve]; // no area with holes in it
  return [shape("path", { class: "area", d: `${path}V${base}H${x(0).toFixed(1)}Z` }), curve];
}

function errorBars({ left, right, floor, strip, most, x }) {
  const width = Math.max(2, (right - left) / Feed.SECONDS * 0.8);
  return feed.errors.flatMap((count, at) => {
    if (!count) return [];
    const height = Math.max(2, count / most * strip);
    return [shape("rect", { class: "errors", x: x(at) - width / 2, y: floor - height, width, height })];
  });
}

// --- players

const IN_HAND = 0.6; // seconds of stream in hand that live aims at, and more where that was not enough
const MOST_IN_HAND = 0.9;
const JUMP = 1.2; // seconds more than that from which live jumps, and does not hurry
const STILL = 3000; // ms without data that are an interruption
const FRAGMENT = 0.2; // seconds of stream that are with the relay, and come when they are complete
const PATIENT = 5000; // ms until it is asked again for what could not be played: the source may change
const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });
const seconds = () => performance.now() / 1000;

/** What a player looks like from outside. `tell(state, detail)` is called with

      playing      there is a picture
      stalled      there was one, and nothing comes
      again        there is none; it is asked for again
      unplayable   no browser plays the codec `detail`
      refused      this browser does not play it
      leftOut      there is no sound, because no browser plays the codec `detail`; "": there is */
class Player {
  constructor(video, tell) {
    this.video = video;
    this.tell = tell;
    this.live = true; // it is to stay at the edge
    this.paused = false; // by whoever watches
  }

  play() {
    this.paused = false;
    this.video.play().catch(() => {}); // the browser wants a click first
  }

  pause() {
    this.live = false;
    this.paused = true;
    this.video.pause();
  }
}

/** `/live.mp4` through Media Source Extensions (relaylib/web/mp4.py). Times differ from one response
    to the next, so each gets a MediaSource of its own; `edge` is what turns its times into delays. */
class LiveMp4 extends Player {
  static supported() { return "MediaSource" in globalThis; }

  constructor(video, tell, mayAsk) {
    super(video, tell);
    this.mayAsk = mayAsk; // tells whether a picture can be had at all
    this.phase = "idle"; // then "asking", then "reading"; or "waiting" to ask again
    this.opened = 0; // counts what was asked for: an answer to an older question is dropped
    this.failures = 0;
    this.edge = 0; // time of the newest sample, less our clock: what is live at s is at edge + s
    this.atEdge = true; // what is read is the newest
    this.begun = false; // what is in hand plays
    this.quiet = false; // nothing comes, though it is read
    this.came = 0; // when something came last, in ms
    this.inHand = IN_HAND;
    this.settled = 0; // when it last ran dry or jumped, in seconds
    video.addEventListener("error", () => video.error && this.again());
    video.addEventListener("waiting", () => this.starved());
    setInterval(() => this.tick(), 200);
  }

  get canSeek() { return true; }

  get behind() { return Math.max(0, this.edge + seconds() - this.video.currentTime); }

  start() { this.open(0); }

  goLive() {
    this.live = true;
    this.play();
    if (this.phase === "reading" && this.atEdge) this.jump();
    else this.open(0);
  }

  seek(behind) {
    this.live = false;
    this.play();
    const time = this.edge + seconds() - behind;
    const at = this.range(time);
    if (at && time < at.end - 0.3) this.video.currentTime = time;
    else this.open(behind);
  }

  /** Goes on from where it stopped, which may be gone, or no longer be read. */
  resume(most) {
    if (this.behind > most) return this.goLive();
    this.play();
    if (this.phase !== "reading") this.open(this.behind);
  }

  /** Something has changed: no reason to wait any longer. */
  nudge() {
    if (this.phase !== "waiting") return;
    this.failures = 1;
    this.reopen();
  }

  // what is in hand

  *ranges() {
    const { buffered } = this.video;
    for (let at = 0; at < buffered.length; at += 1) {
      yield { start: buffered.start(at), end: buffered.end(at) };
    }
  }

  range(time) { return [...this.ranges()].find(({ start, end }) => start <= time && time < end); }

  get last() { return [...this.ranges()].at(-1); }

  /** It ran dry: keep more. Not at the beginning, nor after a seek. */
  starved() {
    if (seconds() - this.settled > 3) this.inHand = Math.min(MOST_IN_HAND, this.inHand + 0.1);
    this.settled = seconds();
  }

  jump() {
    const { last } = this;
    this.settled = seconds() - 2;
    if (last) this.video.currentTime = Math.max(last.start, last.end - this.inHand);
  }

  tick() {
    const { video, last } = this;
    this.listen();
    if (!last || !this.begun || video.seeking) return;
    if (this.atEdge && !this.quiet) {
      this.edge = Math.max(last.end + FRAGMENT - seconds(), this.edge - 0.02);
    }
    const left = last.end - video.currentTime;
    if (!video.paused) this.follow(left);
    else if (left > 60 && this.phase === "reading") this.leave(); // enough for when it goes on
  }

  /** Notices that nothing comes any more, or again. */
  listen() {
    const quiet = performance.now() - this.came > STILL;
    if (this.phase !== "reading" || quiet === this.quiet) return;
    this.quiet = quiet;
    if (!quiet && this.atEdge && this.last) this.edge = this.last.end + FRAGMENT - seconds();
    this.tell(quiet ? "stalled" : "playing");
  }

  /** Stays near the edge with so many seconds `left` in hand, and gets over holes. */
  follow(left) {
    const { video } = this;
    if (video.readyState < 3 || !this.range(video.currentTime)) this.cross();
    if (this.phase === "idle" && left < 0.3) this.reopen();
    const surplus = left - this.inHand;
    const settling = seconds() - this.settled < 2;
    if (this.live && surplus > (settling ? 0.35 : JUMP)) this.jump();
    else if (this.live && surplus > 0.2) video.playbackRate = 1.1;
    else if (this.live && left < this.inHand * 0.6) video.playbackRate = 0.95;
    else video.playbackRate = 1;
  }

  cross() {
    const time = this.video.currentTime;
    const next = [...this.ranges()].find(({ start, end }) => start > time - 0.05 && end - start > 0.1);
    if (next && next.start > time) this.video.currentTime = next.start + 0.01;
  }

  // asking

  leave() {
    this.opened += 1;
    this.abort?.abort();
    this.phase = "idle";
  }

  /** Asks again after a while, longer each time, and not all browsers at once. Who has paused is
      not shown another picture: `resume` asks again. */
  async again(least = 0) {
    this.leave();
    if (this.paused) return;
    this.phase = "waiting";
    const mine = this.opened;
    const pause = this.failures ? Math.min(6000, 300 * 2 ** Math.min(this.failures, 5)) : 50;
    this.failures += 1;
    if (this.failures > 1 && !least) this.tell("again");
    await sleep(Math.max(least, pause * (0.75 + Math.random() / 2)));
    while (mine === this.opened && !this.mayAsk()) {
      this.tell("again");
      await sleep(1000);
    }
    if (mine === this.opened) this.reopen();
  }

  reopen() { this.open(this.live || !this.begun ? 0 : this.behind); }

  async open(back) {
    this.leave();
    this.phase = "asking";
    const mine = this.opened;
    const abort = this.abort = new AbortController();
    const isPast = back > 0.5;
    let least = 0;
    try {
      const target = isPast ? `live.mp4?back=${back.toFixed(1)}` : "live.mp4";
      const response = await fetch(target, { cache: "no-store", signal: abort.signal });
      if (mine !== this.opened) return;
      if (response.ok) least = await this.read(response, mine, isPast);
      else if (response.status === 415) least = this.cannot("unplayable", (await response.json()).codec);
      else this.failures = Math.max(1, Math.min(this.failures, 3)); // it is there: soon again
    } catch {} // the connection has ended, or what came cannot be decoded
    if (mine === this.opened) this.again(least);
  }

  cannot(state, codec) {
    this.abort.abort();
    this.tell(state, codec);
    return PATIENT;
  }

  /** Returns how long to wait at least until it is asked again. */
  async read(response, mine, isPast) {
    const mime = response.headers.get("Content-Type");
    if (!MediaSource.isTypeSupported(mime)) {
      return this.cannot("refused", mime.replace(/.*codecs="?|"$/g, ""));
    }
    const edge = Number(response.headers.get("X-Behind") ?? 0) - seconds(); // of what begins at 0
    const reader = response.body.getReader();
    let buffer = null;
    this.tell("leftOut", response.headers.get("X-Left-Out") ?? "");
    for (;;) {
      const { done, value } = await reader.read();
      if (done || mine !== this.opened) return 0;
      this.came = performance.now();
      buffer ??= await this.attach(mime); // until now, what there was played on
      await this.append(buffer, value);
      if (mine !== this.opened) return 0;
      if (!this.begun && this.last) this.begin(isPast, edge);
      if (this.begun) await this.trim(buffer);
    }
  }

  async attach(mime) {
    const media = new MediaSource();
    const url = URL.createObjectURL(media);
    this.begun = false;
    this.phase = "reading";
    this.video.src = url;
    await new Promise((done) => { media.addEventListener("sourceopen", done, { once: true }); });
    URL.revokeObjectURL(url);
    return media.addSourceBuffer(mime);
  }

  /** Live begins near the edge, the past at its beginning, as soon as a bit of it is in hand. */
  begin(isPast, edge) {
    const { start, end } = this.last;
    this.edge = start + edge;
    this.atEdge = !isPast;
    if (end - start < (isPast ? 0.6 : 0.3)) return;
    this.begun = true;
    this.quiet = false;
    this.settled = seconds(); // what was there already comes in some pieces
    this.video.currentTime = isPast ? start : Math.max(start, end - this.inHand);
    if (!this.paused) this.play();
    this.tell("playing");
    sleep(5000).then(() => { if (this.phase === "reading") this.failures = 0; });
  }

  async append(buffer, data) {
    for (let most = 20; ; most /= 2) {
      try {
        buffer.appendBuffer(data);
        break;
      } catch (error) {
        if (error.name !== "QuotaExceededError" || most < 1) throw error;
        await this.remove(buffer, this.video.currentTime - most);
      }
    }
    await updated(buffer);
  }

  /** Keeps what can be gone back to without asking: some, not all. */
  async trim(buffer) {
    const [first] = this.ranges();
    const keep = this.video.currentTime - 60;
    if (first && first.start < keep - 10) await this.remove(buffer, keep);
  }

  async remove(buffer, until) {
    if (until <= 0) return;
    buffer.remove(0, until);
    await updated(buffer);
  }
}

function updated(buffer) {
  return new Promise((done, failed) => {
    buffer.addEventListener("error", () => failed(new Error("append")), { once: true });
    buffer.addEventListener("updateend", done, { once: true });
  });
}

/** `/live.m3u8` where the browser plays HLS itself (iPhone). */
class NativeHls extends Player {
  static supported() { return $("video").canPlayType("application/vnd.apple.mpegurl") !== ""; }

  constructor(video, tell) {
    super(video, tell);
    this.failures = 0;
    video.addEventListener("error", () => this.again());
    video.addEventListener("playing", () => { this.failures = 0; tell("playing"); });
    video.addEventListener("waiting", () => tell("again"));
  }

  /** Safari can; Chromium plays HLS, but goes nowhere else in it. */
  get canSeek() { return this.video.seekable.length > 0 && !this.video.error; }

  get end() { return this.video.seekable.end(this.video.seekable.length - 1); }

  get behind() { return this.canSeek ? Math.max(0, this.end - this.video.currentTime) : 0; }

  start() {
    this.video.src = "live.m3u8";
    this.play();
  }

  nudge() { if (!this.paused) this.start(); }

  goLive() {
    this.live = true;
    if (!this.canSeek) return this.start();
    this.video.currentTime = this.end;
    this.play();
  }

  seek(behind) {
    this.live = false;
    this.video.currentTime = Math.max(0, this.end - behind);
    this.play();
  }

  resume(most) {
    if (this.video.error || this.behind > most) this.goLive();
    else this.play();
  }

  async again() {
    this.failures += 1;
    this.tell("again");
    await sleep(Math.min(8000, 500 * 2 ** this.failures));
    this.nudge();
  }
}

// --- controls

const video = $("video");
let dragging = false;
let started = false;
let said = { state: "again", detail: "" }; // what the player told last

/** What stands over the picture; "" is nothing. */
function notice(words, detail = "", copies = []) {
  $("notice").hidden = !words;
  say($("notice-text"), words);
  say($("notice-detail"), detail);
  if (copies.join() !== $("notice-copies").dataset.shown) {
    $("notice-copies").dataset.shown = copies.join();
    $("notice-copies").replaceChildren(...copies.map(copyable));
  }
}

function tell(state, detail = "") {
  if (state === "leftOut") {
    say($("left-out"), detail && text("leftOut", detail));
    return;
  }
  said = { state, detail };
  explain();
}

/** Says why there is no picture, if there is none. */
function explain() {
  const { state, detail } = said;
  const { source, stream } = feed.status ?? {};
  const [{ codec = detail } = {}] = codecs(feed.status, "video");
  $("screen").dataset.state = state;
  if (state === "playing") notice("");
  else if (feed.lost) notice(text("word_unknown"), text("means_unknown"));
  else if (source && source.presence !== "active") notice(text("waitSource"), text("waitSourceMore"));
  else if (source?.form === "rtp_other") {
    notice(text("rtp_other", source.payload_type ?? "?"), text("sendMpegTs"));
  } else if (source?.form === "opaque") notice(text("opaqueText"), text("opaqueMore"), [directions[0]]);
  else if (stream?.unplayable) cannotPlay("unplayable", stream.unplayable);
  else if (state === "unplayable") cannotPlay("unplayable", detail);
  else if (state === "refused") cannotPlay("unplayableHere", codec);
  else if (state === "stalled") notice(text("stalled"), text("retrying"));
  else notice(text("waitStream"));
}

function cannotPlay(key, codec) {
  notice(text(key, codec), text("unplayableMore"), directions);
}

function showPosition() {
  const playing = !video.paused;
  const { behind, live, canSeek } = player;
  const useless = !started || said.state === "refused";
  $("play").disabled = $("live").disabled = useless;
  $("seek").disabled = useless || !canSeek;
  $("play").classList.toggle("playing", playing);
  label($("play"), text(playing ? "pause" : "play"));
  $("live").classList.toggle("now", live && playing);
  say($("live-text"), text(live && playing ? "live" : "goLive"));
  $("seek").min = -Math.max(10, Math.floor(feed.status?.history.seconds ?? 60));
  if (dragging || !video.duration || !canSeek) return;
  $("position").dataset.behind = behind.toFixed(2);
  place(live && behind < 3 ? 0 : -behind);
  say($("position"), `−${number(behind, behind < 10 ? 1 : 0)} s`);
}

function place(value) {
  const whole = Math.round(value);
  if ($("seek").valueAsNumber !== whole) $("seek").value = whole;
  $("seek").setAttribute("aria-valuetext", whole ? text("behind", -whole) : text("live"));
}

let seeking = 0;
$("seek").addEventListener("input", () => {
  dragging = true;
  place($("seek").valueAsNumber);
  say($("position"), `−${-$("seek").valueAsNumber} s`);
});
$("seek").addEventListener("change", () => {
  clearTimeout(seeking); // keys repeat: what counts is where they stop
  seeking = setTimeout(() => {
    dragging = false;
    const behind = -$("seek").valueAsNumber;
    if (behind < 2) player.goLive();
    else player.seek(behind);
  }, 200);
});

function toggle() {
  if (!started) return;
  if (video.paused) player.resume(feed.status?.history.seconds ?? 60);
  else player.pause();
  showPosition();
}

$("play").addEventListener("click", toggle);
video.addEventListener("click", toggle);
$("live").addEventListener("click", () => player.goLive());
$("mute").addEventListener("click", () => {
  video.muted = !video.muted;
  $("mute").setAttribute("aria-pressed", video.muted);
});
$("full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else if ($("screen").requestFullscreen) $("screen").requestFullscreen();
  else video.webkitEnterFullscreen?.();
});

// --- beginning

document.documentElement.lang = language;
for (const element of document.querySelectorAll("[data-t]")) say(element, text(element.dataset.t));
for (const element of document.querySelectorAll("[data-t-label]")) {
  label(element, text(element.dataset.tLabel));
}
document.title = text("title");
say($("connection"), text("connecting"));

/** Tells whether a picture can be had, so that nothing is asked for in vain: there is a source, long
    enough to know its codecs, and an entry point, unless nobody looks for them, or there is none. */
function hasPicture(status) {
  if (status?.source.presence !== "active" || status.stream.unplayable) return false;
  if (status.source.form === "rtp_other") return false;
  const { now, verdict, source, history } = status;
  const known = history.points > 0 || verdict.word === "active";
  return now - source.since > (known ? 2 : 5);
}

function begin() {
  if (started) player.nudge();
  else player.start();
  started = true;
}

let hadPicture = false;
const feed = new Feed((status) => {
  show(status);
  if (!player) return;
  const has = hasPicture(status);
  if (has && !hadPicture) begin();
  hadPicture = has;
  explain();
});
const Supported = [LiveMp4, NativeHls].find((each) => each.supported());
const player = Supported ? new Supported(video, tell, () => !feed.status || hasPicture(feed.status)) : null;
new ResizeObserver(draw).observe($("graph"));

if (player) {
  explain();
  setTimeout(() => { if (!feed.status && !started) begin(); }, 2000);
  setInterval(showPosition, 250);
  showPosition();
} else {
  notice(text("noPlayer"), text("unplayableMore"), directions);
}
