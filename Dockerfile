# The tap alone, as nobody. Config, state and catalog come in as files, rows go out by the pipe:
#   docker build -t tap-fullstory .
#   docker run --rm -v "$PWD:/work:ro" tap-fullstory --config config.json --state state.json | target
# Bundles are spooled in /tmp: give it room, or mount a volume and name it as spool_dir.
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir /src && rm -rf /src
USER nobody
WORKDIR /work
ENTRYPOINT ["tap-fullstory"]
