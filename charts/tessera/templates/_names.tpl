{{- define "tessera.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains "tessera" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-tessera" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tessera.labels" -}}
app.kubernetes.io/name: tessera
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that select one component's pods: include with (dict "root" $ "component" NAME). */}}
{{- define "tessera.selector" -}}
app.kubernetes.io/name: tessera
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* User names of the accounts that the policies know. */}}
{{- define "tessera.binder" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tessera.fullname" . }}-scheduler
{{- end }}
{{- define "tessera.agent" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tessera.fullname" . }}-node
{{- end }}
{{- define "tessera.clientNode" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tessera.fullname" . }}-client-node
{{- end }}

{{/* A CEL list of those who act for a node, each for its own. */}}
{{- define "tessera.cel.nodeUsers" -}}
{{- $users := list (include "tessera.agent" .) }}
{{- if .Values.pool.enabled }}{{ $users = append $users (include "tessera.clientNode" .) }}{{ end }}
{{- include "tessera.cel.strings" $users }}
{{- end }}

{{/* The ConfigMap with the certificate of the pool's authority, ca.crt. */}}
{{- define "tessera.poolCa" -}}
{{ include "tessera.fullname" . }}-pool-ca
{{- end }}

{{/* The pool's executors: their namespace, their service account, and the user who alone makes them. */}}
{{- define "tessera.poolNamespace" -}}
{{ .Values.pool.namespace | default .Release.Namespace }}
{{- end }}
{{- define "tessera.poolExecutor" -}}
{{ include "tessera.fullname" . }}-pool-executor
{{- end }}
{{- define "tessera.poolController" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tessera.fullname" . }}-pool-controller
{{- end }}

{{- define "tessera.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* What every container of ours gives up. */}}
{{- define "tessera.hardened" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
{{- define "tessera.hardenedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
