{{/* What the operator may do in a namespace that it serves; nothing more, and never a wildcard. */}}
{{- define "penstock.rules" -}}
- apiGroups: [serving.penstock.dev]
  resources: [inferenceservices]
  verbs: [get, list, watch]
- apiGroups: [serving.penstock.dev]
  resources: [inferenceservices/status]
  verbs: [patch]
# Targets: seen, and changed through /scale only.
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments/scale, statefulsets/scale]
  verbs: [get, patch]
{{- range .Values.rbac.extraTargets }}
- apiGroups: [{{ .apiGroup }}]
  resources: [{{ .resource }}/scale]
  verbs: [get, patch]
{{- end }}
# Patch: the annotation controller.kubernetes.io/pod-deletion-cost chooses the victims of a scale-down.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
# Other autoscalers of the same targets are named and respected, never changed.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.gatewayAPI.enabled }}
# Weights of the rules that services name; RBAC knows no names of those routes.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, patch]
{{- end }}
{{- if or .Values.gateway.enabled .Values.gatewayAPI.enabled .Values.ownedWorkloads.enabled }}
# <name>-penstock, the way to the gateways; <name>-stable and <name>-canary, the arms of a canary; <name>, for clients
# of an owned workload. RBAC knows no name patterns; the operator refuses others' Services.
- apiGroups: [""]
  resources: [services]
  verbs: [create, patch]
{{- end }}
{{- if .Values.ownedWorkloads.enabled }}
# A Deployment per revision of workload.template; earlier revisions are deleted. Others' are refused by the operator.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, patch, delete]
{{- end }}
{{- if .Values.gateway.enabled }}
# What the gateways' agents need to read EndpointSlices, which the operator may read itself.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  resourceNames: [penstock-gateway]
  verbs: [get, create, patch, delete]
{{- if eq .Values.gateway.scope "namespace" }}
{{ include "penstock.gatewayRules" "[get, create, patch, delete]" }}
{{- else }}
# What gateway.scope=namespace left.
{{ include "penstock.gatewayRules" "[get, delete]" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the operator may do where gateway pods live: create by server-side apply, so that names hold. The
     context is the verbs. */}}
{{- define "penstock.gatewayRules" -}}
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [penstock-gateway]
  verbs: {{ . }}
- apiGroups: [""]
  resources: [serviceaccounts, secrets]
  resourceNames: [penstock-gateway]
  verbs: {{ . }}
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [penstock-gateway-plans]
  verbs: {{ . }}
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  resourceNames: [penstock-gateway]
  verbs: {{ . }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  resourceNames: [penstock-gateway]
  verbs: {{ . }}
{{- end }}
