# LLVM 22 as Debian built it. The packages are part of the base root file system; /toolchain holds
# copies of what replays use, so that it is all in one place to be compared.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG SOURCE_DATE_EPOCH
RUN mkdir -p /toolchain/bin /toolchain/lib \
 && for tool in opt llc llvm-as llvm-dis; do cp /usr/lib/llvm-22/bin/$tool /toolchain/bin/; done \
 && cp -L /usr/lib/x86_64-linux-gnu/libLLVM.so.22.1 /toolchain/lib/ \
 && find /toolchain -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +
