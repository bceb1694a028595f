{{/* The built-in environment variables of the server, as a YAML list. */}}
{{- define "ratekeeper.builtinEnv" -}}
{{- if .Values.xds.enabled }}
- name: CONFIG_TYPE
  value: GRPC_XDS_SOTW
- name: CONFIG_GRPC_XDS_SERVER_URL
  value: {{ .Values.xds.serverUrl | quote }}
- name: CONFIG_GRPC_XDS_NODE_ID
  value: {{ .Values.xds.nodeId | quote }}
{{- if .Values.xds.tlsSecret }}
- name: CONFIG_GRPC_XDS_SERVER_USE_TLS
  value: "true"
- name: CONFIG_GRPC_XDS_CLIENT_TLS_CERT
  value: /xds-tls/{{ .Values.xds.tlsSecretKeys.cert }}
- name: CONFIG_GRPC_XDS_CLIENT_TLS_KEY
  value: /xds-tls/{{ .Values.xds.tlsSecretKeys.key }}
- name: CONFIG_GRPC_XDS_SERVER_TLS_CACERT
  value: /xds-tls/{{ .Values.xds.tlsSecretKeys.ca }}
{{- end }}
{{- else }}
- name: CONFIG_PATH
  value: /etc/ratekeeper
{{- end }}
- name: DEFAULT_ALGORITHM
  value: {{ .Values.defaultAlgorithm }}
- name: LOG_LEVEL
  value: {{ .Values.log.level }}
- name: LOG_FORMAT
  value: {{ .Values.log.format }}
- name: USE_STATSD
  value: "false"
- name: USE_PROMETHEUS
  value: "true"
- name: PROMETHEUS_ADDR
  value: ":9090"
- name: SHUTDOWN_DELAY
  value: {{ .Values.shutdown.delaySeconds }}s
- name: SHUTDOWN_GRACE_PERIOD
  value: {{ .Values.shutdown.gracePeriodSeconds }}s
- name: GRPC_MAX_CONNECTION_AGE
  value: {{ .Values.connectionAge }}
{{- if .Values.workerThreads }}
- name: WORKER_THREADS
  value: {{ .Values.workerThreads | quote }}
{{- else }}
{{- range $kind := list "limits" "requests" }}
{{- if and (get (get $.Values.resources $kind | default dict) "cpu") (or (eq $kind "limits") (not (($.Values.resources).limits).cpu)) }}
# As many threads as CPUs, rounded up. Otherwise, the server starts a thread for each CPU of the node.
- name: WORKER_THREADS
  valueFrom:
    resourceFieldRef:
      containerName: ratekeeper
      resource: {{ $kind }}.cpu
{{- end }}
{{- end }}
{{- end }}
{{- if include "ratekeeper.usesRedis" . }}
- name: STORE_FAILURE_MODE
  value: {{ .Values.store.failureMode }}
- name: LOCAL_FALLBACK_SHARE
  value: {{ include "ratekeeper.localFallbackShare" . | quote }}
- name: REDIS_TYPE
  value: {{ .Values.redis.type }}
{{- if .Values.redis.existingSecret }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret }}
      key: {{ .Values.redis.existingSecretKeys.url }}
- name: REDIS_AUTH
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret }}
      key: {{ .Values.redis.existingSecretKeys.auth }}
      optional: true
{{- else }}
- name: REDIS_URL
  value: {{ if .Values.redis.bundled.enabled }}{{ include "ratekeeper.fullname" . }}-redis:6379{{ else }}{{ .Values.redis.url | quote }}{{ end }}
{{- end }}
{{- if .Values.redis.tls.enabled }}
- name: REDIS_TLS
  value: "true"
{{- if .Values.redis.tls.caSecret }}
- name: REDIS_TLS_CACERT
  value: /redis-tls/{{ .Values.redis.tls.caSecretKey }}
{{- end }}
{{- end }}
{{- else }}
- name: BACKEND_TYPE
  value: memory
{{- end }}
{{- if .Values.tls.secret }}
- name: GRPC_SERVER_USE_TLS
  value: "true"
- name: GRPC_SERVER_TLS_CERT
  value: /tls/{{ .Values.tls.secretKeys.cert }}
- name: GRPC_SERVER_TLS_KEY
  value: /tls/{{ .Values.tls.secretKeys.key }}
{{- if .Values.tls.verifyClients }}
- name: GRPC_CLIENT_TLS_CACERT
  value: /tls/{{ .Values.tls.secretKeys.ca }}
{{- end }}
{{- end }}
{{- end }}
