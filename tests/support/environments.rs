//! The environment variables with which control planes start envoyproxy/ratelimit, one on each line.

/// The variables in Istio's samples/ratelimit/rate-limit-service.yaml.
pub const ISTIO: &str = "\
LOG_LEVEL=debug
REDIS_SOCKET_TYPE=tcp
REDIS_URL=redis:6379
USE_STATSD=false
RUNTIME_ROOT=/data
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_WATCH_ROOT=false
RUNTIME_IGNOREDOTFILES=true
HOST=::
GRPC_HOST=::
";

/// The variables that Envoy Gateway 1.9 sets.
pub const ENVOY_GATEWAY: &str = "\
RUNTIME_ROOT=/data
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_IGNOREDOTFILES=true
RUNTIME_WATCH_ROOT=false
LOG_LEVEL=info
USE_STATSD=false
CONFIG_TYPE=GRPC_XDS_SOTW
CONFIG_GRPC_XDS_SERVER_URL=envoy-gateway:18001
CONFIG_GRPC_XDS_NODE_ID=envoy-ratelimit
CONFIG_GRPC_XDS_SERVER_USE_TLS=true
CONFIG_GRPC_XDS_CLIENT_TLS_CERT=/certs/tls.crt
CONFIG_GRPC_XDS_CLIENT_TLS_KEY=/certs/tls.key
CONFIG_GRPC_XDS_SERVER_TLS_CACERT=/certs/ca.crt
FORCE_START_WITHOUT_INITIAL_CONFIG=true
GRPC_SERVER_USE_TLS=true
GRPC_SERVER_TLS_CERT=/certs/tls.crt
GRPC_SERVER_TLS_KEY=/certs/tls.key
GRPC_SERVER_TLS_CA_CERT=/certs/ca.crt
REDIS_SOCKET_TYPE=tcp
REDIS_URL=redis.redis-system.svc.cluster.local:6379
USE_PROMETHEUS=true
PROMETHEUS_ADDR=:19001
PROMETHEUS_MAPPER_YAML=/etc/statsd-exporter/conf.yaml
";

/// The variables that Envoy Gateway sets in addition when tracing is enabled.
pub const ENVOY_GATEWAY_TRACING: &str = "\
TRACING_ENABLED=true
TRACING_SERVICE_NAME=envoy-ratelimit
TRACING_SERVICE_NAMESPACE=envoy-gateway-system
TRACING_SERVICE_INSTANCE_ID=envoy-ratelimit-0
TRACING_SAMPLING_RATE=1.0
OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
";

/// The variables that AI Gateway 1.1 sets: no TLS, and rules from its own controller.
pub const AI_GATEWAY: &str = "\
RUNTIME_ROOT=/data
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_IGNOREDOTFILES=true
RUNTIME_WATCH_ROOT=false
LOG_LEVEL=info
USE_STATSD=false
CONFIG_TYPE=GRPC_XDS_SOTW
CONFIG_GRPC_XDS_SERVER_URL=ai-gateway-controller:18002
CONFIG_GRPC_XDS_NODE_ID=envoy-ai-gateway-ratelimit
FORCE_START_WITHOUT_INITIAL_CONFIG=true
REDIS_SOCKET_TYPE=tcp
REDIS_URL=redis:6379
";
