"""Everything that the client says to a person, in two languages. Pure.

The English text stands where it is said, and is the key to the Spanish one: `say("unknown host:
{host}", host=host)`. A text that is not said where it stands, but kept in a table, is marked with
`text`; the two long ones stand here. A test collects all of them, and compares texts and
placeholders with the table below. Rejected: gettext, whose catalogues are compiled files that would
have to be made, found and installed.

What programs read is never translated: replies, exit statuses, what AYUDA says to a pipe.
"""

import codecs
import unicodedata
from collections.abc import Mapping


def text(english: str) -> str:
    """Mark a text that is said elsewhere."""
    return english


def say(english: str, /, **values: object) -> str:
    """Return the text in the language in use, its placeholders filled in."""
    words = _in_use.get(english, english)
    return words.format(**values) if values else words


def language(environ: Mapping[str, str]) -> str:
    """Return the language of the locale, as in locale(7): "es", "en"."""
    names = (environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    name = next(filter(None, names), "")
    return "es" if name[:2].lower() == "es" and not name[2:3].isalpha() else "en"


def use(code: str) -> None:
    """Say everything in this language from now on."""
    _in_use.clear()
    if code == "es":
        _in_use.update(SPANISH)


def _without_accents(error: UnicodeError) -> tuple[str, int]:
    """Write what the terminal's character set lacks in ASCII: o for an o with an accent."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    plain = unicodedata.normalize("NFKD", wrong)
    plain = "".join(each for each in plain if not unicodedata.combining(each))
    return plain.encode("ascii", "backslashreplace").decode("ascii"), error.end


PLAIN = "without_accents"
"""An error handler for streams: of any text something readable is written."""

codecs.register_error(PLAIN, _without_accents)

EXAMPLES = """
examples:
  python3 client.py 192.168.1.5 9000 5004             type the commands
  python3 client.py 192.168.1.5 9000 5004 --vlc       and watch in VLC
  python3 client.py 192.168.1.5 9000 5004 --vlc=rtp   now; the source sends RTP
  python3 client.py 192.168.1.5 9000 5004 --watch     and see how it goes
  printf 'CONECTAR\\nESTADO\\n' | python3 client.py 192.168.1.5 9000 5004
  python3 client.py 192.168.1.5 9000 9000 --reconnect --script CONECTAR

Ctrl-D (or the end of the input) and Ctrl-C send DESCONECTAR and wait for the
reply; a second Ctrl-C leaves at once. With --reconnect or --watch the session
goes on when piped commands or a script have come to their end.

A script has one command a line, or several separated by semicolons on the
command line; # begins a comment, ESPERAR 5 waits for five seconds. It ends at
the first command that fails.

exit status: 0 DESCONECTAR was confirmed, or with --reconnect the relay was
away by then; 1 the connection was declined, lost or never made, or, without a
terminal, a command got ERROR or no answer, or was not sent; 2 bad argument or
script; 130 left at once
"""
EXAMPLES_ES = """
ejemplos:
  python3 client.py 192.168.1.5 9000 5004             escribir los comandos
  python3 client.py 192.168.1.5 9000 5004 --vlc       y ver en VLC
  python3 client.py 192.168.1.5 9000 5004 --vlc=rtp   ya; la fuente envía RTP
  python3 client.py 192.168.1.5 9000 5004 --watch     y ver cómo va
  printf 'CONECTAR\\nESTADO\\n' | python3 client.py 192.168.1.5 9000 5004
  python3 client.py 192.168.1.5 9000 9000 --reconnect --script CONECTAR

Ctrl-D (o el fin de la entrada) y Ctrl-C envían DESCONECTAR y esperan la
respuesta; un segundo Ctrl-C sale en el acto. Con --reconnect o --watch la
sesión sigue cuando se acaban los comandos de una tubería o de un guion.

Un guion tiene un comando por línea, o varios separados por punto y coma en la
línea de órdenes; # empieza un comentario, ESPERAR 5 espera cinco segundos.
Termina en el primer comando que falla.

estado de salida: 0 DESCONECTAR fue confirmado, o con --reconnect el relay ya
no estaba; 1 la conexión fue rechazada, se perdió o no se logró, o, sin
terminal, un comando recibió ERROR o ninguna respuesta, o no se envió;
2 argumento o guion incorrecto; 130 salida en el acto
"""
HELP = """\
commands:
  CONECTAR [PORT]     the stream comes to UDP port {port} here, or to PORT
  INTERRUMPIR         pause: nothing is sent until CONTINUAR
  CONTINUAR           resume live
  CONTINUAR DIFERIDO  resume where it was paused, if the relay keeps that much
  RETROCEDER SECONDS  go back by so much, likewise; CONTINUAR is live again
  DESCONECTAR         end the stream and leave; so do Ctrl-D and Ctrl-C
  ESTADO              ask the relay how the session stands
  AYUDA               show this list"""
HELP_ES = """\
comandos:
  CONECTAR [PUERTO]   el flujo llega aquí al puerto UDP {port}, o a PUERTO
  INTERRUMPIR         pausa: no se envía nada hasta CONTINUAR
  CONTINUAR           seguir en directo
  CONTINUAR DIFERIDO  seguir donde se hizo la pausa, si el relay guarda tanto
  RETROCEDER SEGUNDOS volver atrás eso, si se guarda; CONTINUAR: al directo
  DESCONECTAR         dejar el flujo y salir; también Ctrl-D y Ctrl-C
  ESTADO              preguntar al relay cómo está la sesión
  AYUDA               mostrar esta lista"""

_in_use: dict[str, str] = {}

SPANISH = {
    # --- the arguments; some are argparse's own
    "usage: ": "uso: ",
    "options": "opciones",
    "positional arguments": "argumentos",
    "show this help message and exit": "muestra esta ayuda y termina",
    "show program's version number and exit": "muestra la versión y termina",
    "the following arguments are required: %s": "faltan argumentos: %s",
    "unrecognized arguments: %s": "argumentos desconocidos: %s",
    "argument %(argument_name)s: %(message)s": "argumento %(argument_name)s: %(message)s",
    "expected one argument": "necesita un valor",
    "invalid choice: %(value)r (choose from %(choices)s)": (
        "valor no válido: %(value)r (elija entre %(choices)s)"
    ),
    "ignored explicit argument %r": "no admite el valor %r",
    "--help shows how": "--help lo explica",
    "not a port ({low} to {high}): {word!r}": "no es un puerto ({low} a {high}): {word!r}",
    "{word!r} looks like a port: HOST comes before PORT": (
        "{word!r} parece un puerto: HOST va antes de PORT"
    ),
    "Ask a relay for its stream, and control it.": "Pide a un relay su flujo y lo controla.",
    "the relay's name or address, IPv4 or IPv6": "nombre o dirección del relay, IPv4 o IPv6",
    "its TCP port": "su puerto TCP",
    "the UDP port here where the player listens": (
        "el puerto UDP de esta máquina donde escucha el reproductor"
    ),
    "open VLC there, after CONECTAR at the address that fits what the source sends, or at once at "
    "this one, and close it on leaving": (
        "abre VLC en ese puerto: tras CONECTAR, en la dirección que corresponde a lo que envía la "
        "fuente, o enseguida en esta; y lo cierra al salir"
    ),
    "when the connection is lost or cannot be made, try again until it is, and go on as before": (
        "si la conexión se pierde o no se consigue, insiste hasta lograrla y sigue como estaba"
    ),
    "show how the session stands, once a second": "muestra el estado de la sesión, cada segundo",
    "take the commands from FILE, from the standard input (-), or from the argument itself, such "
    "as CONECTAR": (
        "toma los comandos de FILE, de la entrada estándar (-) o del propio argumento, como "
        "CONECTAR"
    ),
    EXAMPLES: EXAMPLES_ES,
    # --- the script
    "cannot read {name}: {reason}": "no se puede leer {name}: {reason}",
    "{name}, line {number}": "{name}, línea {number}",
    "{place}: too long to be a command": "{place}: demasiado largo para ser un comando",
    "{place}: ESPERAR takes seconds, up to {most}": (
        "{place}: ESPERAR pide segundos, {most} como mucho"
    ),
    # --- the connection
    "cannot connect to {relay}: {reason}": "no se puede conectar con {relay}: {reason}",
    "unknown host: {host}": "host desconocido: {host}",
    "no answer in {seconds:g} s": "sin respuesta en {seconds:g} s",
    "it has no address": "no tiene dirección",
    "a link-local address needs the interface that leads there: {example}": (
        "una dirección local de enlace necesita la interfaz que lleva allí: {example}"
    ),
    "nothing listens there: start the relay, or correct PORT": (
        "nadie escucha ahí: ponga en marcha el relay, o corrija PORT"
    ),
    "that host does not answer: see that it is on, or correct HOST": (
        "ese host no responde: compruebe que está encendido, o corrija HOST"
    ),
    "this machine has no way to that network": "esta máquina no tiene ruta hacia esa red",
    "the name {host} cannot be looked up at present": (
        "el nombre {host} no se puede consultar ahora"
    ),
    "connection lost: {reason}": "conexión perdida: {reason}",
    "the relay reset it": "el relay la cortó",
    "the relay's host does not answer any more": "el host del relay ya no responde",
    "the relay ended the session": "el relay terminó la sesión",
    "the relay closed the connection and did not say why": (
        "el relay cerró la conexión sin decir por qué"
    ),
    "the relay did not confirm DESCONECTAR in {seconds:g} s": (
        "el relay no confirmó DESCONECTAR en {seconds:g} s"
    ),
    "what answers sends lines that are too long: it is not a relay": (
        "lo que responde envía líneas demasiado largas: no es un relay"
    ),
    # --- coming back
    "{reason}; trying again": "{reason}; se reintenta",
    "{command} got {reply}": "{command} recibió {reply}",
    "connected again after {seconds:.0f} s": "conectado de nuevo tras {seconds:.0f} s",
    "the stream comes to UDP port {port} again; what came meanwhile is lost": (
        "el flujo llega otra vez al puerto UDP {port}; lo emitido entretanto se ha perdido"
    ),
    "paused again, from now on": "otra vez en pausa, desde ahora",
    "live now: the relay has nothing left of what you were watching": (
        "ahora en directo: el relay ya no guarda lo que estaba viendo"
    ),
    "{behind:.0f} s behind live; {gap:.0f} s are lost: the relay keeps no more": (
        "{behind:.0f} s por detrás del directo; se han perdido {gap:.0f} s: el relay no guarda más"
    ),
    "{behind:.0f} s behind live; nothing is lost": (
        "{behind:.0f} s por detrás del directo; no se ha perdido nada"
    ),
    "not connected for {seconds} s; trying now": (
        "sin conexión desde hace {seconds} s; intentándolo"
    ),
    "not connected for {seconds} s; next attempt in {wait} s": (
        "sin conexión desde hace {seconds} s; próximo intento en {wait} s"
    ),
    "UDP port {port} is open again: CONTINUAR": (
        "el puerto UDP {port} está abierto otra vez: CONTINUAR"
    ),
    "not connected: this waits until the relay is back": (
        "sin conexión: esto espera a que vuelva el relay"
    ),
    # --- the greeting
    "connected to {relay}": "conectado a {relay}",
    "CONECTAR brings the stream to UDP port {port} of this host": (
        "CONECTAR trae el flujo al puerto UDP {port} de este host"
    ),
    "open {udp} in VLC to watch ({rtp} if you know that it is RTP)": (
        "para verlo, abra {udp} en VLC ({rtp} si sabe que es RTP)"
    ),
    "open {url} in VLC to watch": "para verlo, abra {url} en VLC",
    "AYUDA lists the commands, Ctrl-D leaves": "AYUDA enumera los comandos, Ctrl-D sale",
    # --- the commands
    HELP: HELP_ES,
    "{line}: CONECTAR takes one UDP port, {low} to {high}, or none": (
        "{line}: CONECTAR admite un puerto UDP, de {low} a {high}, o ninguno"
    ),
    "{line}: RETROCEDER takes seconds, more than 0 and up to {most}": (
        "{line}: RETROCEDER pide segundos, más de 0 y {most} como mucho"
    ),
    "{line}: {word} does not take that": "{line}: {word} no admite eso",
    "unknown command: {line} (AYUDA lists them)": "comando desconocido: {line} (AYUDA los enumera)",
    "{command} is not valid now ({state})": "{command} no es válido ahora ({state})",
    "idle": "inactivo",
    "streaming": "transmitiendo",
    "paused": "pausado",
    "deferred": "diferido",
    "closed": "cerrado",
    "{reason}: not sent": "{reason}: no se envía",
    "no answer to {command} in {seconds:g} s: it hangs": (
        "sin respuesta a {command} en {seconds:g} s: está colgado"
    ),
    "no answer to {command} in {seconds:g} s: it hangs, or ignores what it rejects": (
        "sin respuesta a {command} en {seconds:g} s: está colgado, o ignora lo que rechaza"
    ),
    "the relay has no source: nothing comes until somebody sends it a stream": (
        "el relay no tiene fuente: no llegará nada hasta que alguien le envíe un flujo"
    ),
    "the source is silent: nothing comes until it sends again": (
        "la fuente está en silencio: no llegará nada hasta que vuelva a emitir"
    ),
    "RTP without MPEG-TS (payload type {kind}): send rtp_mpegts": (
        "RTP sin MPEG-TS (tipo {kind}): emita rtp_mpegts"
    ),
    # --- how the session stands
    "relay": "relay",
    "state": "estado",
    "goes to": "destino",
    "sent": "enviados",
    "lost": "perdidos",
    "source": "fuente",
    "form": "forma",
    "health": "salud",
    "delay": "retraso",
    "idle: CONECTAR brings the stream": "inactivo: CONECTAR trae el flujo",
    "paused: CONTINUAR goes on": "en pausa: se sigue con CONTINUAR",
    "behind live: CONTINUAR is live again": "en diferido: CONTINUAR vuelve al directo",
    "sending": "emitiendo",
    "silent: nothing comes until it sends again": (
        "en silencio: no llega nada hasta que vuelva a emitir"
    ),
    "none: nothing comes until somebody sends a stream": (
        "ninguna: no llega nada hasta que alguien emita"
    ),
    "RTP": "RTP",
    "MPEG-TS": "MPEG-TS",
    "not recognised": "no reconocida",
    "good: nothing is missing": "buena: no falta nada",
    "the source: what comes from it has gaps or damage; look at the encoder, and at the network "
    "before the relay": (
        "la fuente: lo que llega de ella tiene huecos o daños; revise el codificador y la red "
        "anterior al relay"
    ),
    "the relay: it dropped something or stood still; its log says what helps": (
        "el relay: descartó algo o se quedó parado; su registro dice qué ayuda"
    ),
    "your network: not everything gets through to you; look at the link and the player": (
        "su red: no le llega todo; revise el enlace y el reproductor"
    ),
    "the source: nobody can play the form of its stream like this": (
        "la fuente: así nadie puede reproducir la forma de su flujo"
    ),
    "no stream: start the source": "no hay flujo: ponga en marcha la fuente",
    "not looked at (--no-inspect)": "no se examina (--no-inspect)",
    "{count} datagrams": "{count} datagramas",
    "{count}, {rate}/s": "{count}, {rate}/s",
    ",": ".",
    "none: live": "ninguno: en directo",
    "{seconds:.0f} s behind live": "{seconds:.0f} s por detrás del directo",
    "it does not answer": "no responde",
    "this relay does not answer ESTADO: there is nothing to watch": (
        "este relay no responde a ESTADO: no hay nada que mostrar"
    ),
    # --- the console and the player
    "a line of the input is too long to be a command": (
        "una línea de la entrada es demasiado larga para ser un comando"
    ),
    "cannot write: {reason}": "no se puede escribir: {reason}",
    "standard input, output and error must be open (use /dev/null)": (
        "la entrada, la salida y el error estándar deben estar abiertos (use /dev/null)"
    ),
    "--vlc: there is no vlc on PATH: install VLC, or leave out --vlc and open any player by hand": (
        "--vlc: no hay vlc en PATH: instale VLC, o quite --vlc y abra un reproductor a mano"
    ),
    "--vlc: cannot start {path}: {reason}": "--vlc: no se puede iniciar {path}: {reason}",
    "the player failed (try {command} to see why); the session goes on": (
        "el reproductor falló (pruebe {command} para ver por qué); la sesión sigue"
    ),
    "the player is closed; the session goes on": "el reproductor se ha cerrado; la sesión sigue",
}
