{{- define "ratekeeper.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that "-redis" still fits a name. */}}
{{- define "ratekeeper.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "ratekeeper.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "ratekeeper.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "ratekeeper.selector" -}}
app.kubernetes.io/name: {{ include "ratekeeper.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: ratelimit
{{- end }}

{{- define "ratekeeper.redisSelector" -}}
app.kubernetes.io/name: {{ include "ratekeeper.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end }}

{{- define "ratekeeper.chartLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "ratekeeper.labels" -}}
{{ include "ratekeeper.selector" . }}
{{ include "ratekeeper.chartLabels" . }}
{{- end }}

{{- define "ratekeeper.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{/* Whether this release runs servers itself. */}}
{{- define "ratekeeper.serves" -}}
{{- if not .Values.envoyGateway.enabled }}true{{ end }}
{{- end }}

{{- define "ratekeeper.usesRedis" -}}
{{- if or .Values.envoyGateway.enabled (eq .Values.store.type "redis") }}true{{ end }}
{{- end }}

{{- define "ratekeeper.bundlesRedis" -}}
{{- if and (include "ratekeeper.usesRedis" .) .Values.redis.bundled.enabled }}true{{ end }}
{{- end }}

{{/* Mistakes that no schema can tell. */}}
{{- define "ratekeeper.check" -}}
{{- if and (include "ratekeeper.usesRedis" .) (not .Values.redis.bundled.enabled) (not .Values.redis.url) (not .Values.redis.existingSecret) }}
{{- fail "redis.bundled.enabled is false: say where your Redis is, with redis.url or redis.existingSecret (or set store.type to memory)" }}
{{- end }}
{{- if and .Values.redis.bundled.enabled (or .Values.redis.url .Values.redis.existingSecret) (include "ratekeeper.usesRedis" .) }}
{{- fail "redis.url or redis.existingSecret is set: set redis.bundled.enabled to false, too" }}
{{- end }}
{{- if and (include "ratekeeper.bundlesRedis" .) (or .Values.redis.tls.enabled (ne .Values.redis.type "single")) }}
{{- fail "redis.tls and redis.type are for a Redis that you have: set redis.bundled.enabled to false" }}
{{- end }}
{{- if and .Values.tls.verifyClients (not .Values.tls.secret) }}
{{- fail "tls.verifyClients needs tls.secret, a Secret with tls.crt, tls.key and ca.crt" }}
{{- end }}
{{- if and .Values.envoyGateway.enabled (not .Values.redis.bundled.enabled) .Values.redis.existingSecret }}
{{- fail "envoyGateway needs redis.url: its configuration names an address, not this kind of Secret" }}
{{- end }}
{{- if and .Values.envoyGateway.enabled .Values.istio.enabled }}
{{- fail "envoyGateway.enabled and istio.enabled: the one leaves no server for the other to ask" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) }}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" }}
{{- end }}
{{- end }}
