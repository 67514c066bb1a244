# The tap alone, as nobody. Config, state and catalog are read from files, rows go out by the pipe:
#   docker build -t tap-fullstory .
#   docker run --rm -v "$PWD:/work:ro" tap-fullstory --config config.json --catalog catalog.json \
#       --state state.json | target
# Bundles are spooled in /tmp: give it room, or mount a volume and name it as spool_dir.
# The base images are pinned by tag, to a patch version of Python; .github/dependabot.yml proposes newer ones.
# To pin the bytes as well, append the digest that `docker buildx imagetools inspect` prints, as in
# python:3.13.9-bookworm@sha256:...: the bot then keeps that current, too.
FROM python:3.13.9-bookworm AS build
COPY . /src
RUN pip wheel --no-cache-dir --wheel-dir /wheels --require-hashes --requirement /src/constraints.txt \
    && pip wheel --no-cache-dir --wheel-dir /wheels --no-deps /src

FROM python:3.13.9-slim-bookworm
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --no-deps /wheels/*.whl && rm -rf /wheels
# nobody, as a number: Kubernetes cannot tell under runAsNonRoot who a name is.
USER 65534:65534
WORKDIR /work
ENTRYPOINT ["tap-fullstory"]
