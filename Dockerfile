# A static binary in an image that holds nothing else: no shell, no package manager, no libc.
#   docker build -t ratekeeper:0.1.0 .
# The server alone, without the commands bench, hit, migrate, replay and top:
#   docker build -t ratekeeper:0.1.0 --build-arg FEATURES= .
FROM rust:1.95-alpine3.22 AS build
WORKDIR /src
COPY . .
# Alpine's own target is musl, which Rust links statically. Symbols are two megabytes that are not used here.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# Features of the binary; "tools" or nothing.
ARG FEATURES=tools
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin ratekeeper --no-default-features --features "$FEATURES" \
    && mkdir -p /out/bin /out/etc/ssl/certs \
    && cp target/release/ratekeeper /out/bin/ \
    # The name that envoyproxy/ratelimit has in its image, and that deployments start.
    && ln -s ratekeeper /out/bin/ratelimit \
    # For TLS to servers whose certificates public authorities sign.
    && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM scratch
COPY --from=build /out/ /
# An unprivileged user, as in Envoy Gateway. No file is written: the root filesystem can be read-only.
USER 65534:65534
# gRPC, HTTP, metrics, debug.
EXPOSE 8081 8080 9090 6070
ENTRYPOINT ["/bin/ratekeeper"]
