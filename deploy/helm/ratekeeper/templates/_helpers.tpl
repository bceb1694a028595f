{{- define "ratekeeper.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The full name of the release, short enough for the suffix "-dashboard". */}}
{{- define "ratekeeper.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "ratekeeper.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "ratekeeper.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "ratekeeper.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "ratekeeper.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Labels. commonLabels cannot replace the labels that selectors need. */}}

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
{{- $own := merge (fromYaml (include "ratekeeper.selector" .)) (fromYaml (include "ratekeeper.chartLabels" .)) }}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{- define "ratekeeper.podLabels" -}}
{{- toYaml (merge (fromYaml (include "ratekeeper.labels" .)) .Values.podLabels) }}
{{- end }}

{{- define "ratekeeper.redisLabels" -}}
{{- $own := merge (fromYaml (include "ratekeeper.redisSelector" .)) (fromYaml (include "ratekeeper.chartLabels" .)) }}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{- define "ratekeeper.image" -}}
{{- $registry := (.Values.global).imageRegistry | default "" }}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ end }}
{{- .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "ratekeeper.imagePullSecrets" -}}
{{- $all := list }}
{{- range concat ((.Values.global).imagePullSecrets | default list) .Values.imagePullSecrets }}
{{- $all = append $all (ternary (dict "name" .) . (kindIs "string" .)) }}
{{- end }}
{{- with $all | uniq }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* The parts that this release installs. */}}

{{- define "ratekeeper.serves" -}}
{{- if and .Values.enabled (not .Values.envoyGateway.enabled) }}true{{ end }}
{{- end }}

{{- define "ratekeeper.usesRedis" -}}
{{- if or .Values.envoyGateway.enabled (eq .Values.store.type "redis") }}true{{ end }}
{{- end }}

{{- define "ratekeeper.bundlesRedis" -}}
{{- if and .Values.enabled (include "ratekeeper.usesRedis" .) .Values.redis.bundled.enabled }}true{{ end }}
{{- end }}

{{/* The number of servers that always run. A HorizontalPodAutoscaler adds more. */}}
{{- define "ratekeeper.servers" -}}
{{- if .Values.envoyGateway.enabled }}
{{- .Values.envoyGateway.replicas }}
{{- else if .Values.autoscaling.enabled }}
{{- .Values.autoscaling.minReplicas }}
{{- else }}
{{- .Values.replicas }}
{{- end }}
{{- end }}

{{/* LOCAL_FALLBACK_SHARE, with six decimals, rounded down, so that the shares add up to at most the limit. */}}
{{- define "ratekeeper.localFallbackShare" -}}
{{- $millionths := 1000000 }}
{{- if kindIs "invalid" .Values.store.localFallbackShare }}
{{- $millionths = div 1000000 (max 1 (include "ratekeeper.servers" . | int)) }}
{{- else }}
{{- $millionths = mulf .Values.store.localFallbackShare 1000000 | floor | int }}
{{- end }}
{{- if ge (int $millionths) 1000000 }}1{{ else }}{{ printf "0.%06d" (int $millionths) }}{{ end }}
{{- end }}

{{/* Environment variables of the server: a YAML list. An entry of `env` replaces the built-in one of the same name. */}}
{{- define "ratekeeper.env" -}}
{{- $own := fromYamlArray (include "ratekeeper.builtinEnv" .) }}
{{- $yours := dict }}
{{- range .Values.env }}
{{- if hasKey $yours .name }}{{ fail (printf "env names %s twice" .name) }}{{ end }}
{{- $_ := set $yours .name . }}
{{- end }}
{{- $all := list }}
{{- range $own }}
{{- if not (hasKey $yours .name) }}{{ $all = append $all . }}{{ end }}
{{- end }}
{{- toYaml (concat $all .Values.env) }}
{{- end }}

{{/* The value of a variable in a list, "" if it is missing or set by valueFrom. Arguments: (list ENV NAME). */}}
{{- define "ratekeeper.valueOf" -}}
{{- $name := index . 1 }}
{{- range index . 0 }}{{ if eq .name $name }}{{ .value | default "" }}{{ end }}{{ end }}
{{- end }}

{{/* The ports in addresses of Redis, joined by spaces. An address without a port has the usual one; the first part of a list for
     Sentinel is the master's name. */}}
{{- define "ratekeeper.redisPorts" -}}
{{- range splitList "," . }}
{{- $place := regexReplaceAll "[/?].*$" (regexReplaceAll "^.*@" (regexReplaceAll "^[a-z+]+://" (trim .) "") "") "" }}
{{- if regexMatch ":[0-9]+$" $place }}
{{- regexFind "[0-9]+$" $place }}{{ " " }}
{{- else if $place }}
{{- "6379 " }}
{{- end }}
{{- end }}
{{- end }}

{{/* Errors that no schema can express. */}}
{{- define "ratekeeper.check" -}}
{{- if and (include "ratekeeper.usesRedis" .) (not .Values.redis.bundled.enabled) (not .Values.redis.url) (not .Values.redis.existingSecret) }}
{{- fail "redis.bundled.enabled is false: set redis.url or redis.existingSecret (or set store.type to memory)" }}
{{- end }}
{{- if and .Values.redis.bundled.enabled (or .Values.redis.url .Values.redis.existingSecret) (include "ratekeeper.usesRedis" .) }}
{{- fail "redis.url or redis.existingSecret is set: set redis.bundled.enabled to false, too" }}
{{- end }}
{{- if and (include "ratekeeper.bundlesRedis" .) (or .Values.redis.tls.enabled (ne .Values.redis.type "single")) }}
{{- fail "redis.tls and redis.type are for an existing Redis: set redis.bundled.enabled to false" }}
{{- end }}
{{- if and .Values.tls.verifyClients (not .Values.tls.secret) }}
{{- fail "tls.verifyClients needs tls.secret, a Secret with tls.crt, tls.key and ca.crt" }}
{{- end }}
{{- if and .Values.envoyGateway.enabled (not .Values.redis.bundled.enabled) .Values.redis.existingSecret }}
{{- fail "envoyGateway.enabled requires redis.url: its configuration has an address and cannot use redis.existingSecret" }}
{{- end }}
{{- if and .Values.envoyGateway.enabled .Values.istio.enabled }}
{{- fail "envoyGateway.enabled and istio.enabled: with envoyGateway.enabled, the chart installs no server that Istio could use" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) }}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor.enabled and podMonitor.enabled: Prometheus would scrape each server twice, choose one" }}
{{- end }}
{{- $ends := .Values.terminationGracePeriodSeconds }}
{{- $needs := add .Values.shutdown.delaySeconds .Values.shutdown.gracePeriodSeconds | int }}
{{- if and (not (kindIs "invalid" $ends)) (lt (int $ends) $needs) }}
{{- fail (printf "terminationGracePeriodSeconds is less than shutdown.delaySeconds and shutdown.gracePeriodSeconds together (%d): the kubelet would kill the server first" $needs) }}
{{- end }}
{{- end }}
