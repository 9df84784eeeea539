{{/*
Annotations that a controller needs: time for WebSockets, TLS where the nodes do it, cookies where stickiness is wanted. A map from `ingress` and
`service` to the annotations of that object.
*/}}
{{- define "starling.controllerAnnotations" -}}
{{- $sticky := .Values.ingress.sticky -}}
{{- $tls := include "starling.tls" . -}}
{{- $ingress := dict -}}
{{- $service := dict -}}
{{- if not .Values.ingress.enabled -}}
{{- else if eq .Values.ingress.controller "nginx" -}}
  {{- $_ := set $ingress "nginx.ingress.kubernetes.io/proxy-read-timeout" "3600" -}}
  {{- $_ := set $ingress "nginx.ingress.kubernetes.io/proxy-send-timeout" "3600" -}}
  {{- $_ := set $ingress "nginx.ingress.kubernetes.io/proxy-next-upstream" "error timeout http_503" -}}
  {{- if $tls -}}
    {{- $_ := set $ingress "nginx.ingress.kubernetes.io/backend-protocol" "HTTPS" -}}
  {{- end -}}
  {{- if $sticky -}}
    {{- $_ := set $ingress "nginx.ingress.kubernetes.io/affinity" "cookie" -}}
    {{- $_ := set $ingress "nginx.ingress.kubernetes.io/affinity-mode" "balanced" -}}
    {{- $_ := set $ingress "nginx.ingress.kubernetes.io/session-cookie-name" "starling" -}}
    {{- $_ := set $ingress "nginx.ingress.kubernetes.io/session-cookie-max-age" "3600" -}}
    {{- $_ := set $ingress "nginx.ingress.kubernetes.io/session-cookie-change-on-failure" "true" -}}
  {{- end -}}
{{- else if eq .Values.ingress.controller "haproxy" -}}
  {{- /* WebSockets may be silent for an hour: the default of timeout-tunnel, which only the controller's ConfigMap can change. */ -}}
  {{- $_ := set $ingress "haproxy.org/load-balance" "leastconn" -}}
  {{- $_ := set $ingress "haproxy.org/forwarded-for" "true" -}}
  {{- if $tls -}}
    {{- $_ := set $ingress "haproxy.org/server-ssl" "true" -}}
  {{- end -}}
  {{- if $sticky -}}
    {{- $_ := set $ingress "haproxy.org/cookie-persistence" "starling" -}}
  {{- end -}}
{{- else if eq .Values.ingress.controller "traefik" -}}
  {{- if $tls -}}
    {{- $_ := set $service "traefik.ingress.kubernetes.io/service.serversscheme" "https" -}}
  {{- end -}}
  {{- if $sticky -}}
    {{- $_ := set $service "traefik.ingress.kubernetes.io/service.sticky.cookie" "true" -}}
    {{- $_ := set $service "traefik.ingress.kubernetes.io/service.sticky.cookie.name" "starling" -}}
    {{- $_ := set $service "traefik.ingress.kubernetes.io/service.sticky.cookie.httponly" "true" -}}
  {{- end -}}
{{- else if eq .Values.ingress.controller "aws" -}}
  {{- $drain := include "starling.drainSeconds" . -}}
  {{- $_ := set $ingress "alb.ingress.kubernetes.io/target-type" "ip" -}}
  {{- $_ := set $ingress "alb.ingress.kubernetes.io/healthcheck-path" "/ready" -}}
  {{- if $tls -}}
    {{- $_ := set $ingress "alb.ingress.kubernetes.io/backend-protocol" "HTTPS" -}}
  {{- end -}}
  {{- $_ := set $ingress "alb.ingress.kubernetes.io/healthcheck-interval-seconds" "5" -}}
  {{- $_ := set $ingress "alb.ingress.kubernetes.io/healthcheck-timeout-seconds" "2" -}}
  {{- $_ := set $ingress "alb.ingress.kubernetes.io/unhealthy-threshold-count" "2" -}}
  {{- $_ := set $ingress "alb.ingress.kubernetes.io/load-balancer-attributes" "idle_timeout.timeout_seconds=3600" -}}
  {{- $target := printf "deregistration_delay.timeout_seconds=%s" $drain -}}
  {{- if $sticky -}}
    {{- $target = printf "%s,stickiness.enabled=true,stickiness.type=lb_cookie,stickiness.lb_cookie.duration_seconds=3600" $target -}}
  {{- end -}}
  {{- $_ := set $ingress "alb.ingress.kubernetes.io/target-group-attributes" $target -}}
{{- end -}}
{{- dict "ingress" $ingress "service" $service | toJson -}}
{{- end -}}
