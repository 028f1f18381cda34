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
{{- end }}
