{{/* The short name of the chart. */}}
{{- define "starling.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of most objects. */}}
{{- define "starling.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "starling.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "starling.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "starling.selectorLabels" -}}
app.kubernetes.io/name: {{ include "starling.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "starling.labels" -}}
{{- $own := dict "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "starling" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- merge $own (include "starling.selectorLabels" . | fromYaml) .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* The image, by digest where one is given. */}}
{{- define "starling.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "starling.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "starling.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The Secret that the pods mount. */}}
{{- define "starling.secretName" -}}
{{- default (include "starling.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{/* `own`: the chart makes the Secret; `existing`: somebody else did; `external`: the External Secrets Operator does. */}}
{{- define "starling.secretSource" -}}
{{- if .Values.secrets.existingSecret -}}existing
{{- else if .Values.secrets.external.enabled -}}external
{{- else -}}own
{{- end -}}
{{- end -}}

{{/* The names of the secrets that the pods get, as a JSON list. */}}
{{- define "starling.secretsPresent" -}}
{{- $present := list -}}
{{- if eq (include "starling.secretSource" .) "own" -}}
  {{- range $name, $value := .Values.secrets.values -}}
    {{- if $value -}}{{- $present = append $present $name -}}{{- end -}}
  {{- end -}}
  {{- if .Values.trial.enabled -}}
    {{- $present = concat $present (list "jwtSecret" "databaseUrl" "redisUrl") | uniq -}}
  {{- end -}}
{{- else -}}
  {{- $present = .Values.secrets.present -}}
{{- end -}}
{{- $present | sortAlpha | toJson -}}
{{- end -}}

{{/* The variable that names the file of a secret. */}}
{{- define "starling.secretVariable" -}}
{{- get (dict "jwtSecret" "STARLING_JWT_SECRET_FILE" "ticketSecret" "STARLING_TICKET_SECRET_FILE" "ticketSecretPrevious" "STARLING_TICKET_SECRET_PREVIOUS_FILE" "databaseUrl" "DATABASE_URL_FILE" "databaseReadUrl" "DATABASE_READ_URL_FILE" "redisUrl" "REDIS_URL_FILE" "rabbitmqUrl" "RABBITMQ_URL_FILE" "sentryDsn" "SENTRY_DSN_FILE") . -}}
{{- end -}}

{{/* Who brings the schema up to date. The databases of a trial do not exist yet when a hook runs before the first install. */}}
{{- define "starling.migrations" -}}
{{- ternary "node" .Values.migrations.mode .Values.trial.enabled -}}
{{- end -}}

{{/* `true` if the nodes themselves do TLS on the public port; else empty. */}}
{{- define "starling.tls" -}}
{{- if .Values.config.tls_certificate_file -}}true{{- end -}}
{{- end -}}

{{/* Seconds that a drain may take: `config.drain_seconds`, or the program's default. */}}
{{- define "starling.drainSeconds" -}}
{{- if hasKey .Values.config "drain_seconds" -}}{{ int .Values.config.drain_seconds }}{{- else -}}30{{- end -}}
{{- end -}}

{{/* Seconds that Kubernetes waits for a drained pod. */}}
{{- define "starling.gracePeriod" -}}
{{- $needed := add (include "starling.drainSeconds" . | int) 10 -}}
{{- $given := int .Values.terminationGracePeriodSeconds -}}
{{- if eq $given 0 -}}{{ $needed }}{{- else -}}{{ $given }}{{- end -}}
{{- end -}}

{{/* A value as TOML. */}}
{{- define "starling.toml" -}}
{{- if kindIs "string" . -}}{{ . | toJson }}
{{- else if kindIs "slice" . -}}{{ . | toJson }}
{{- else if kindIs "float64" . -}}{{ if eq (float64 (int64 .)) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else -}}{{ . }}
{{- end -}}
{{- end -}}

{{/* The lines of a table of the configuration file. */}}
{{- define "starling.tomlTable" -}}
{{- $table := . }}
{{- range $key := keys $table | sortAlpha }}
{{- if ne (toString (index $table $key)) "" }}
{{ $key }} = {{ include "starling.toml" (index $table $key) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The configuration file. */}}
{{- define "starling.config" -}}
listen = "0.0.0.0:8080"
metrics_listen = "0.0.0.0:9090"
database_migrate = {{ eq (include "starling.migrations" .) "node" }}
log_format = "json"
{{- with .Values.jwt.publicKey }}
jwt_public_key_file = "/etc/starling/config/jwt-public-key.pem"
{{- end }}
{{- with .Values.jwt.jwksUrl }}
jwt_jwks_url = {{ . | toJson }}
{{- end }}
{{- with .Values.jwt.algorithm }}
jwt_algorithm = {{ . | toJson }}
{{- end }}
{{- if .Values.rabbitmq.ca }}
rabbitmq_ca_file = "/etc/starling/config/rabbitmq-ca.pem"
{{- end }}
{{- include "starling.tomlTable" .Values.config }}
{{- range $tenant := keys .Values.tenants | sortAlpha }}

[tenants.{{ $tenant | toJson }}]
{{- include "starling.tomlTable" (index $.Values.tenants $tenant) }}
{{- end }}
{{- range $direction, $bridges := dict "in" .Values.rabbitmq.in "out" .Values.rabbitmq.out }}
{{- range $bridge := keys $bridges | sortAlpha }}

[rabbitmq.{{ $direction }}.{{ $bridge }}]
{{- include "starling.tomlTable" (index $bridges $bridge) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What every container of the program may do: nothing beyond its own work. */}}
{{- define "starling.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "starling.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* The volumes with the configuration and the secrets. `root`: the chart; `secrets`: the names of the secrets. */}}
{{- define "starling.volumes" -}}
- name: config
  configMap: { name: {{ include "starling.fullname" .root }} }
- name: secrets
  secret:
    secretName: {{ include "starling.secretName" .root }}
    defaultMode: 0440
    items:
      {{- range $name := .secrets }}
      - { key: {{ index $.root.Values.secrets.keys $name }}, path: {{ index $.root.Values.secrets.keys $name }} }
      {{- end }}
{{- end -}}

{{- define "starling.mounts" -}}
- { name: config, mountPath: /etc/starling/config, readOnly: true }
- { name: secrets, mountPath: /etc/starling/secrets, readOnly: true }
{{- end -}}

{{/* The variables that name the files of secrets. `root`: the chart; `secrets`: the names of the secrets. */}}
{{- define "starling.secretEnv" -}}
{{- range $name := .secrets }}
- name: {{ include "starling.secretVariable" $name }}
  value: /etc/starling/secrets/{{ index $.root.Values.secrets.keys $name }}
{{- end }}
{{- end -}}

{{/* Spreads the pods of a component. `root`: the chart; `component`: which pods; `spread`: the values `topologySpread` of it. */}}
{{- define "starling.topologySpread" -}}
{{- range list (list "topology.kubernetes.io/zone" .spread.zone) (list "kubernetes.io/hostname" .spread.host) }}
{{- if index . 1 }}
- maxSkew: 1
  topologyKey: {{ index . 0 }}
  whenUnsatisfiable: {{ index . 1 }}
  # Counts the pods of one version, so that an upgrade leaves the new ones spread.
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- include "starling.selectorLabels" $.root | nindent 6 }}
      app.kubernetes.io/component: {{ $.component }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Annotations that replace the pods when the configuration or a secret changes. */}}
{{- define "starling.checksums" -}}
checksum/config: {{ include "starling.config" . | cat (print .Values.jwt.publicKey .Values.rabbitmq.ca) | sha256sum }}
{{- if eq (include "starling.secretSource" .) "own" }}
checksum/secrets: {{ toJson .Values.secrets.values | sha256sum }}
{{- end }}
{{- end -}}

{{/* Who may reach the metrics port. */}}
{{- define "starling.metricsIngress" -}}
- ports: [{ port: metrics, protocol: TCP }]
  from:
    {{- if .Values.networkPolicy.metricsFrom }}
    {{- toYaml .Values.networkPolicy.metricsFrom | nindent 4 }}
    {{- else }}
    - podSelector: {}
    {{- end }}
{{- end -}}

{{/* The component whose pods carry the bridges to RabbitMQ; empty: there is no address of RabbitMQ. */}}
{{- define "starling.carriesBridges" -}}
{{- if has "rabbitmqUrl" (include "starling.secretsPresent" . | fromJsonArray) -}}
{{- ternary "worker" "gateway" .Values.worker.enabled -}}
{{- end -}}
{{- end -}}

{{/* What nodes may connect to. `root`: the chart; `component`: which pods. */}}
{{- define "starling.egress" -}}
- ports: [{ port: 53, protocol: UDP }, { port: 53, protocol: TCP }]
- to: [{ podSelector: { matchLabels: { {{ include "starling.selectorLabels" .root | replace "\n" ", " }} } } }]
- ports:
    {{- range .root.Values.networkPolicy.egressPorts }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
    {{- if eq .component (include "starling.carriesBridges" .root) }}
    {{- range .root.Values.rabbitmq.ports }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
    {{- end }}
{{- end -}}

{{/* Ends the rendering when values contradict each other. */}}
{{- define "starling.check" -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling.enabled and keda.enabled exclude each other: both would set the number of pods" -}}
{{- end -}}
{{- $worker := .Values.worker -}}
{{- if and $worker.autoscaling.enabled $worker.keda.enabled -}}
{{- fail "worker.autoscaling.enabled and worker.keda.enabled exclude each other: both would set the number of workers" -}}
{{- end -}}
{{- if and (or $worker.autoscaling.enabled $worker.keda.enabled) (not $worker.enabled) -}}
{{- fail "worker.autoscaling and worker.keda need worker.enabled: without it there are no workers to scale" -}}
{{- end -}}
{{- if and $worker.autoscaling.enabled (not (or $worker.autoscaling.targetWaitingSeconds $worker.autoscaling.targetCPUUtilizationPercentage)) -}}
{{- fail "worker.autoscaling has nothing to scale by: set targetWaitingSeconds or targetCPUUtilizationPercentage" -}}
{{- end -}}
{{- if and $worker.keda.enabled (not (or $worker.keda.prometheusAddress $worker.keda.cpuUtilizationPercentage)) -}}
{{- fail "worker.keda has nothing to scale by: set worker.keda.prometheusAddress or worker.keda.cpuUtilizationPercentage" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name at least one host, or set ingress.enabled to false" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.parentRefs is empty: name the gateway that carries the route" -}}
{{- end -}}
{{- $drain := include "starling.drainSeconds" . | int -}}
{{- $grace := int (include "starling.gracePeriod" .) -}}
{{- if lt $grace (add $drain 10 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but a drain takes up to config.drain_seconds = %d and the pod needs 10 s more: use at least %d, or 0" $grace $drain (add $drain 10)) -}}
{{- end -}}
{{- if and .Values.jwt.publicKey .Values.jwt.jwksUrl -}}
{{- fail "jwt.publicKey and jwt.jwksUrl exclude each other" -}}
{{- end -}}
{{- $asymmetric := or .Values.jwt.publicKey .Values.jwt.jwksUrl -}}
{{- if and $asymmetric (not .Values.jwt.algorithm) -}}
{{- fail "jwt.algorithm is missing: jwt.publicKey and jwt.jwksUrl need one of RS256, ES256, EdDSA" -}}
{{- end -}}
{{- $present := include "starling.secretsPresent" . | fromJsonArray -}}
{{- $where := ternary "secrets.values" "secrets.present" (eq (include "starling.secretSource" .) "own") -}}
{{- $hint := "; or set secrets.existingSecret, or trial.enabled for a first try" -}}
{{- if and (not $asymmetric) (not (has "jwtSecret" $present)) -}}
{{- fail (printf "%s lacks jwtSecret, 32 bytes or more%s" $where $hint) -}}
{{- end -}}
{{- if and $asymmetric (not (has "ticketSecret" $present)) -}}
{{- fail (printf "%s lacks ticketSecret, which signs resume tickets while jwt.publicKey or jwt.jwksUrl checks tokens%s" $where $hint) -}}
{{- end -}}
{{- if not (has "databaseUrl" $present) -}}
{{- fail (printf "%s lacks databaseUrl, the address of PostgreSQL%s" $where $hint) -}}
{{- end -}}
{{- if not (has "redisUrl" $present) -}}
{{- fail (printf "%s lacks redisUrl, the address of Redis%s" $where $hint) -}}
{{- end -}}
{{- if and (or .Values.rabbitmq.in .Values.rabbitmq.out) (not (has "rabbitmqUrl" $present)) -}}
{{- fail (printf "%s lacks rabbitmqUrl, the address of RabbitMQ, which the bridges of rabbitmq.in and rabbitmq.out need" $where) -}}
{{- end -}}
{{- if and .Values.rabbitmq.ca .Values.config.rabbitmq_ca_file -}}
{{- fail "rabbitmq.ca and config.rabbitmq_ca_file exclude each other: one is the authorities' certificates, the other a file with them" -}}
{{- end -}}
{{- if and .Values.secrets.external.enabled (or (not .Values.secrets.external.storeName) (not .Values.secrets.external.remoteKey)) -}}
{{- fail "secrets.external needs storeName and remoteKey" -}}
{{- end -}}
{{- if and .Values.trial.enabled (ne (include "starling.secretSource" .) "own") -}}
{{- fail "trial.enabled makes its own secrets: leave secrets.existingSecret and secrets.external unset" -}}
{{- end -}}
{{- if and .Values.trial.enabled (or .Values.secrets.values.databaseUrl .Values.secrets.values.redisUrl) -}}
{{- fail "trial.enabled makes databaseUrl and redisUrl itself: leave them out of secrets.values" -}}
{{- end -}}
{{- range $labels := list "commonLabels" "podLabels" -}}
{{- range $label := keys (index $.Values $labels) | sortAlpha -}}
{{- if or (hasPrefix "app.kubernetes.io/" $label) (hasPrefix "helm.sh/" $label) -}}
{{- fail (printf "%s can't set %s, which the chart sets itself" $labels $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ne (empty .Values.config.tls_certificate_file) (empty .Values.config.tls_key_file) -}}
{{- fail "config.tls_certificate_file and config.tls_key_file need each other" -}}
{{- end -}}
{{- range $scaler, $values := dict "autoscaling" .Values.autoscaling "keda" .Values.keda "worker.autoscaling" $worker.autoscaling "worker.keda" $worker.keda -}}
{{- if and $values.enabled (lt (int $values.maxReplicas) (int $values.minReplicas)) -}}
{{- fail (printf "%s.maxReplicas is %d, which is less than %s.minReplicas = %d" $scaler (int $values.maxReplicas) $scaler (int $values.minReplicas)) -}}
{{- end -}}
{{- end -}}
{{- $hpa := .Values.autoscaling -}}
{{- if and $hpa.enabled (not (or $hpa.targetCPUUtilizationPercentage $hpa.targetMemoryUtilizationPercentage $hpa.targetConnectionsPerPod)) -}}
{{- fail "autoscaling has nothing to scale by: set targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or targetConnectionsPerPod" -}}
{{- end -}}
{{- if and .Values.keda.enabled (not (or .Values.keda.prometheusAddress .Values.keda.cpuUtilizationPercentage)) -}}
{{- fail "keda has nothing to scale by: set keda.prometheusAddress or keda.cpuUtilizationPercentage" -}}
{{- end -}}
{{- if and (has (toString .Values.updateStrategy.maxSurge) (list "0" "0%")) (has (toString .Values.updateStrategy.maxUnavailable) (list "0" "0%")) -}}
{{- fail "updateStrategy.maxSurge and updateStrategy.maxUnavailable are both 0: no pod could be replaced" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) -}}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled: it finds the pods through that Service" -}}
{{- end -}}
{{- if and .Values.ingress.sticky (not .Values.ingress.controller) -}}
{{- fail "ingress.sticky needs ingress.controller: each controller has annotations of its own for cookies" -}}
{{- end -}}
{{- end -}}
