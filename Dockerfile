# The tap alone, as nobody. Config, state and catalog come in as files, rows go out by the pipe:
#   docker build -t tap-fullstory .
#   docker run --rm -v "$PWD:/work:ro" tap-fullstory --config config.json --state state.json | target
# Bundles are spooled in /tmp: give it room, or mount a volume and name it as spool_dir.
FROM python:3.13 AS build
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.13-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -rf /wheels
USER nobody
WORKDIR /work
ENTRYPOINT ["tap-fullstory"]
