{{/* Settings of a component as environment variables, in a fixed order: include with a dict of strings. */}}
{{- define "tessera.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- define "tessera.labelled" -}}
labels:
  {{- include "tessera.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Where GPU nodes' pods run: not on client nodes, which have a device plugin of their own. */}}
{{- define "tessera.gpuNodeAffinity" -}}
{{- $affinity := deepCopy .Values.gpuNodes.affinity }}
{{- if .Values.pool.enabled }}
  {{- $label := splitList "=" .Values.pool.clients.label }}
  {{- $elsewhere := dict "key" (first $label) "operator" "NotIn" "values" (list (last $label)) }}
  {{- $node := get $affinity "nodeAffinity" | default dict }}
  {{- $required := get $node "requiredDuringSchedulingIgnoredDuringExecution" | default dict }}
  {{- $terms := list }}
  {{- range get $required "nodeSelectorTerms" | default (list dict) }}
    {{- $terms = append $terms (merge (dict "matchExpressions" (append (.matchExpressions | default list) $elsewhere)) .) }}
  {{- end }}
  {{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
  {{- $_ := set $affinity "nodeAffinity" $node }}
{{- end }}
{{- with $affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where pods may run: include with a component's values. */}}
{{- define "tessera.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tessera.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
