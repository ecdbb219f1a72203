# An image with the plugin and its tools, and nothing else: for init containers, or to take the files out of:
#
#     docker build --build-arg VERSION=$(git describe --tags --always) -t in-defender .
#     docker build --output out .        # writes out/in_defender.so, out/defenderctl and out/install-plugin
#
# docs/deployment.md shows both.

# Built on Debian 12 (bookworm), because the shared object binds to the versions that the C library's symbols have where it is
# linked: there it needs glibc 2.34, which the official images of Fluent Bit (Debian 12 and 13) and current distributions have. A
# newer base may bind it to newer symbols, and Fluent Bit would not load it. Alpine is no base: Go shared objects cannot be loaded under musl.

# GO_IMAGE is the image of Go that builds it; a mirror of one's own goes here.
ARG GO_IMAGE=golang:1.26-bookworm

FROM ${GO_IMAGE} AS build
WORKDIR /src
# The modules come in a layer of their own, which is made again only when they change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# VERSION comes from outside, as .git is not in the build context.
ARG VERSION=unknown
RUN make build build-kubernetes VERSION="${VERSION}"
# The promise about glibc, checked: the newest symbol version that the plugins ask for.
RUN newest=$(objdump -T build/in_defender*.so | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -n 1) \
    && [ -n "${newest}" ] && echo "the plugins need ${newest}" \
    && [ "$(printf '%s\nGLIBC_2.34\n' "${newest}" | sort -V | tail -n 1)" = GLIBC_2.34 ]

FROM scratch
COPY --from=build /src/LICENSE /LICENSE
# Roots for "defenderctl check" and "defenderctl pull".
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/build/in_defender.so /src/build/in_defender_kubernetes.so /src/build/defenderctl /src/build/install-plugin /
USER 65532:65532
ENTRYPOINT ["/install-plugin"]
CMD ["/plugins"]
