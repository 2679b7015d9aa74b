{{/*
Certificates of the scheduler's ports and of kube-scheduler as its client, made once by Helm and kept over upgrades.
The authority's key is not stored: to renew, delete both Secrets and upgrade. `helm template` cannot look anything
up and makes new ones each time. The pairs are kept in .Values for the length of one rendering.
*/}}
{{- define "tessera.certificates" -}}
{{- if not (hasKey .Values "_pairs") }}
  {{- $name := printf "%s-scheduler" (include "tessera.fullname" .) }}
  {{- $server := lookup "v1" "Secret" .Release.Namespace (printf "%s-tls" $name) }}
  {{- $client := lookup "v1" "Secret" .Release.Namespace (printf "%s-kube-scheduler-tls" (include "tessera.fullname" .)) }}
  {{- $pairs := dict }}
  {{- if and $server $client (eq (get $server.data "ca.crt") (get $client.data "ca.crt")) }}
    {{- $pairs = dict "server" $server.data "client" $client.data }}
  {{- else }}
    {{- $days := int .Values.certificates.validDays }}
    {{- $ca := genCA (printf "%s-ca" (include "tessera.fullname" .)) $days }}
    {{- $hosts := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) }}
    {{- $hosts = concat $hosts .Values.certificates.extraNames }}
    {{- $serverPair := genSignedCert (printf "%s.%s.svc" $name .Release.Namespace) (list) $hosts $days $ca }}
    {{- $clientPair := genSignedCert (include "tessera.extenderClient" .) (list) (list) $days $ca }}
    {{- $pairs = dict
      "server" (dict "ca.crt" ($ca.Cert | b64enc) "tls.crt" ($serverPair.Cert | b64enc) "tls.key" ($serverPair.Key | b64enc))
      "client" (dict "ca.crt" ($ca.Cert | b64enc) "tls.crt" ($clientPair.Cert | b64enc) "tls.key" ($clientPair.Key | b64enc)) }}
  {{- end }}
  {{- $_ := set .Values "_pairs" $pairs }}
{{- end }}
{{- end }}

{{- define "tessera.caBundle" -}}
{{- include "tessera.certificates" . -}}
{{- get .Values._pairs.server "ca.crt" -}}
{{- end }}

{{/* Common name of the only client that the extender's port answers. */}}
{{- define "tessera.extenderClient" -}}
{{ include "tessera.fullname" . }}-kube-scheduler
{{- end }}
