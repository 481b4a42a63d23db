# A toolchain out of wheels that the host downloaded and checked. Needs no network: wheels/ and
# requirements.lock come with the context, and pip checks every hash again.
#
# The result is the base and /toolchain, as in the sandbox's environment: compiled Python files name
# no place and no time, and file times are SOURCE_DATE_EPOCH, so the layer depends on the inputs only.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS install
ARG SOURCE_DATE_EPOCH
COPY wheels /wheels
COPY requirements.lock /requirements.lock
RUN python3 -m pip install --no-index --find-links /wheels --require-hashes --only-binary :all: \
      --no-deps --no-compile --no-cache-dir --disable-pip-version-check --root-user-action ignore \
      --quiet --target /made/toolchain -r /requirements.lock \
 && { PYTHONHASHSEED=0 python3 -m compileall -qq -f -s /made/toolchain \
      --invalidation-mode unchecked-hash /made/toolchain > /dev/null || true; } \
 && find /made -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE_IMAGE}
# The folder above: the classic builder would give /toolchain itself the time of the copy.
COPY --from=install /made /
