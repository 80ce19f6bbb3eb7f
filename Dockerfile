# A small image, without a compiler, pip's cache or root. README says how it is run.
# The version that the tests run with; any from 3.11 will do.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv --without-pip /opt/relay
RUN pip --python /opt/relay/bin/python install --no-cache-dir .

FROM python:${PYTHON}-slim
COPY --from=build /opt/relay /opt/relay
ENV PATH=/opt/relay/bin:$PATH
RUN useradd --system --uid 9000 --no-create-home --shell /usr/sbin/nologin relay
USER relay
WORKDIR /
EXPOSE 9000/tcp 9000/udp 8080/tcp
STOPSIGNAL SIGTERM
# Whether the relay answers. That no source sends is no reason to start it anew: see /healthz.
HEALTHCHECK --interval=60s --timeout=5s --start-period=5s --retries=3 CMD ["python", "-c", \
  "import socket; s = socket.create_connection(('127.0.0.1', 9000), 4); s.sendall(b'ESTADO\\n'); raise SystemExit(not s.recv(99))"]
ENTRYPOINT ["relay"]
CMD ["0.0.0.0", "9000", "--http", "8080"]
