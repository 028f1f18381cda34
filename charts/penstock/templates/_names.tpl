{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "penstock.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "penstock.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "penstock.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "penstock.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "penstock.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "penstock.selectorLabels" -}}
app.kubernetes.io/name: {{ include "penstock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "penstock.labels" -}}
{{ include "penstock.selectorLabels" . }}
app.kubernetes.io/part-of: penstock
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "penstock.gatewayKeySecret" -}}
{{- default (printf "%s-gateway-key" (include "penstock.fullname" .)) .Values.gateway.tokenSecret.name }}
{{- end }}

{{- define "penstock.gatewayTemplate" -}}
{{- $gateway := .Values.gateway -}}
image: {{ printf "%s:%s" $gateway.image.repository (default .Chart.AppVersion $gateway.image.tag) | quote }}
imagePullPolicy: {{ $gateway.image.pullPolicy }}
replicas: {{ $gateway.replicas }}
concurrency: {{ $gateway.concurrency }}
drainSeconds: {{ $gateway.drainSeconds }}
resources: {{- toYaml $gateway.resources | nindent 2 }}
agentResources: {{- toYaml $gateway.agentResources | nindent 2 }}
pod: {{- toYaml $gateway.pod | nindent 2 }}
podSecurityContext: {{- toYaml $gateway.podSecurityContext | nindent 2 }}
networkPolicy: {{- toYaml $gateway.networkPolicy | nindent 2 }}
namespace: {{ .Release.Namespace }}
clusterDomain: {{ $gateway.clusterDomain }}
{{- end }}
