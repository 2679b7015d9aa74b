{{/*
The rules of a slice request, in CEL, once for pods and once for each place where a pod template stands.
Each rule is a list of sentences about what is wrong; the first one is the answer. A container is `c`.
The floor is Kubernetes 1.31: no comprehension over two variables.
*/}}

{{- define "tessera.cel.limits" -}} c.?resources.?limits.orValue({}) {{- end }}
{{- define "tessera.cel.mentions" -}}
(c.?resources.?limits.orValue({}).exists(k, k.startsWith('tessera.io/')) || c.?resources.?requests.orValue({}).exists(k, k.startsWith('tessera.io/')))
{{- end }}

{{/* Whether limit KEY of `c` is a whole number from LOW to HIGH: include with (list KEY LOW HIGH). */}}
{{- define "tessera.cel.whole" -}}
(quantity(string(c.resources.limits['{{ index . 0 }}'])).isInteger() && quantity(string(c.resources.limits['{{ index . 0 }}'])).compareTo(quantity('{{ index . 1 }}')) >= 0 && quantity(string(c.resources.limits['{{ index . 0 }}'])).compareTo(quantity('{{ index . 2 }}')) <= 0)
{{- end }}

{{/* Over how many GPUs the slice of `c` is spread; 1 where the count itself is wrong and has its own sentence. */}}
{{- define "tessera.cel.gpus" -}}
('tessera.io/gpu-count' in c.resources.limits && {{ include "tessera.cel.whole" (list "tessera.io/gpu-count" "1" "64") }} ? quantity(string(c.resources.limits['tessera.io/gpu-count'])).asInteger() : 1)
{{- end }}

{{/* Start of a sentence about limit KEY (a CEL string) of `c`. */}}
{{- define "tessera.cel.field" -}}
variables.where + (variables.podSpec.containers.exists(x, x.name == c.name) ? '.containers[' : variables.podSpec.?initContainers.orValue([]).exists(x, x.name == c.name) ? '.initContainers[' : '.ephemeralContainers[') + c.name + ']'
{{- end }}
{{- define "tessera.cel.found" -}}
{{ include "tessera.cel.field" . }} + '.resources.limits[{{ . }}]: found \'' + string(c.resources.limits['{{ . }}']) + '\'; allowed: '
{{- end }}

{{/* A CEL list of strings. */}}
{{- define "tessera.cel.strings" -}}
[{{ range $i, $s := . }}{{ if $i }}, {{ end }}'{{ $s }}'{{ end }}]
{{- end }}

{{/* True where anything in the pod spec P (a CEL expression) names a resource of ours. */}}
{{- define "tessera.cel.concerned" -}}
({{ . }}.containers + {{ . }}.?initContainers.orValue([])).exists(c, {{ include "tessera.cel.mentions" . }}) ||
{{ . }}.?ephemeralContainers.orValue([]).exists(c, {{ include "tessera.cel.mentions" . }}) ||
{{ . }}.?resources.?limits.orValue({}).exists(k, k.startsWith('tessera.io/'))
{{- end }}

{{/* What the shim charges for a context, which a slice has to hold on each GPU; 0 without the shim. */}}
{{- define "tessera.contextBytes" -}}
{{ ternary (.Values.node.agent.contextBytes | int64) 0 .Values.node.agent.shim }}
{{- end }}
{{/* Bytes as a quantity. */}}
{{- define "tessera.size" -}}
{{ if mod . 1048576 }}{{ . }}{{ else }}{{ div . 1048576 }}Mi{{ end }}
{{- end }}

{{/* Variables: include with a dict of least (bytes of gpu-mem for each GPU), podSpec, annotations, where (CEL expressions;
where is a plain string). */}}
{{- define "tessera.policy.variables" -}}
- name: podSpec
  expression: {{ .podSpec | quote }}
- name: notes
  expression: {{ .annotations | quote }}
- name: where
  expression: "'{{ .where }}'"
- name: notesWhere
  expression: "'{{ .annotationsWhere }}'"
- name: sidecars
  expression: "variables.podSpec.?initContainers.orValue([]).filter(c, c.?restartPolicy.orValue('') == 'Always')"
- name: askers
  expression: >-
    (variables.podSpec.containers + variables.sidecars).filter(c,
    {{ include "tessera.cel.limits" . }}.exists(k, k.startsWith('tessera.io/')))
- name: everyone
  expression: >-
    variables.podSpec.containers + variables.podSpec.?initContainers.orValue([]) + variables.podSpec.?ephemeralContainers.orValue([])
- name: badPlace
  expression: >-
    (variables.podSpec.?initContainers.orValue([]).filter(c, c.?restartPolicy.orValue('') != 'Always') +
    variables.podSpec.?ephemeralContainers.orValue([])).filter(c, {{ include "tessera.cel.mentions" . }}).map(c,
    {{ include "tessera.cel.field" . }} + '.resources: found a tessera.io resource; allowed: slices in ordinary containers and sidecars only')
- name: badPodLevel
  expression: >-
    variables.podSpec.?resources.?limits.orValue({}).exists(k, k.startsWith('tessera.io/')) ?
    [variables.where + '.resources.limits: found a tessera.io resource; allowed: slices in containers only'] : []
- name: badKey
  expression: >-
    variables.askers.filter(c, c.resources.limits.exists(k, k.startsWith('tessera.io/') && !(k in variables.known))).map(c,
    {{ include "tessera.cel.field" . }} + '.resources.limits: found ' +
    c.resources.limits.filter(k, k.startsWith('tessera.io/') && !(k in variables.known))[0] +
    '; allowed: tessera.io/gpu-mem, tessera.io/gpu-core, tessera.io/gpu-count, tessera.io/gpu')
- name: badMem
  expression: >-
    variables.askers.filter(c, 'tessera.io/gpu-mem' in c.resources.limits &&
    !{{ include "tessera.cel.whole" (list "tessera.io/gpu-mem" "1" "64Ti") }}).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu-mem" }} + 'whole bytes from 1 to 64Ti, such as 4Gi or 500M')
{{- if .least }}
- name: smallMem
  expression: >-
    variables.askers.filter(c, 'tessera.io/gpu-mem' in c.resources.limits &&
    {{ include "tessera.cel.whole" (list "tessera.io/gpu-mem" "1" "64Ti") }} &&
    quantity(string(c.resources.limits['tessera.io/gpu-mem'])).asInteger() < {{ .least }} * {{ include "tessera.cel.gpus" . }}).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu-mem" }} + 'at least {{ include "tessera.size" .least }} for each GPU, which a program\'s context takes')
{{- end }}
- name: badCount
  expression: >-
    variables.askers.filter(c, 'tessera.io/gpu-count' in c.resources.limits &&
    !{{ include "tessera.cel.whole" (list "tessera.io/gpu-count" "1" "64") }}).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu-count" }} + 'a whole number from 1 to 64') +
    variables.askers.filter(c, 'tessera.io/gpu-count' in c.resources.limits && !('tessera.io/gpu' in c.resources.limits) &&
    !('tessera.io/gpu-mem' in c.resources.limits) && !('tessera.io/gpu-core' in c.resources.limits)).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu-count" }} + 'only beside tessera.io/gpu-mem or tessera.io/gpu-core')
- name: badCore
  expression: >-
    variables.askers.filter(c, 'tessera.io/gpu-core' in c.resources.limits &&
    !({{ include "tessera.cel.whole" (list "tessera.io/gpu-core" "1" "6400") }} &&
    quantity(string(c.resources.limits['tessera.io/gpu-core'])).asInteger() <= 100 * {{ include "tessera.cel.gpus" . }})).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu-core" }} + 'a whole number from 1 to ' + string(100 * {{ include "tessera.cel.gpus" . }})) +
    variables.askers.filter(c, 'tessera.io/gpu-core' in c.resources.limits &&
    {{ include "tessera.cel.whole" (list "tessera.io/gpu-core" "1" "6400") }} &&
    quantity(string(c.resources.limits['tessera.io/gpu-core'])).asInteger() % {{ include "tessera.cel.gpus" . }} != 0).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu-core" }} + 'a multiple of tessera.io/gpu-count, ' + string({{ include "tessera.cel.gpus" . }}))
- name: badWhole
  expression: >-
    variables.askers.filter(c, 'tessera.io/gpu' in c.resources.limits &&
    !{{ include "tessera.cel.whole" (list "tessera.io/gpu" "1" "64") }}).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu" }} + 'a whole number from 1 to 64') +
    variables.askers.filter(c, 'tessera.io/gpu' in c.resources.limits &&
    ['tessera.io/gpu-mem', 'tessera.io/gpu-core', 'tessera.io/gpu-count'].exists(k, k in c.resources.limits)).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu" }} + 'not beside tessera.io/gpu-mem, gpu-core or gpu-count')
- name: badSlot
  expression: >-
    variables.askers.filter(c, 'tessera.io/slice' in c.resources.limits &&
    !['tessera.io/gpu-mem', 'tessera.io/gpu-core', 'tessera.io/gpu-count', 'tessera.io/gpu'].exists(k, k in c.resources.limits)).map(c,
    {{ include "tessera.cel.found" "tessera.io/slice" }} + 'only beside a tessera.io request') +
    variables.askers.filter(c, 'tessera.io/slice' in c.resources.limits &&
    quantity(string(c.resources.limits['tessera.io/slice'])).compareTo(quantity('1')) != 0).map(c,
    {{ include "tessera.cel.found" "tessera.io/slice" }} + '1, as the webhook writes it')
- name: noSlot
  expression: >-
    variables.askers.filter(c, !('tessera.io/slice' in c.resources.limits)).map(c,
    {{ include "tessera.cel.field" . }} + '.resources.limits[tessera.io/slice]: found none; allowed: 1, as the webhook writes it')
- name: badNote
  expression: >-
    variables.notes.filter(k, k in variables.choices && !(variables.notes[k] in variables.choices[k])).map(k,
    variables.notesWhere + '[' + k + ']: found \'' + variables.notes[k] + '\'; allowed: ' + variables.choices[k].join(', ')) +
    variables.notes.filter(k, k in ['tessera.io/gpu-model', 'tessera.io/gpu-uuid'] &&
    variables.notes[k].split(',').exists(i, i.trim() in ['', '!'])).map(k,
    variables.notesWhere + '[' + k + ']: found \'' + variables.notes[k] + '\'; allowed: a comma list of names; ! before a name excludes it') +
    variables.notes.filter(k, k == 'tessera.io/gpu-lease' && !variables.notes[k].matches('^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$')).map(k,
    variables.notesWhere + '[' + k + ']: found \'' + variables.notes[k] + '\'; allowed: the name of a GPULease of the pod\'s namespace') +
    variables.notes.filter(k, k == 'tessera.io/gpu-lease' && variables.notes[?'tessera.io/remote'].orValue('') != 'required').map(k,
    variables.notesWhere + '[' + k + ']: found \'' + variables.notes[k] + '\'; allowed: only with tessera.io/remote: required') +
    variables.notes.filter(k, k.startsWith('tessera.io/') && !(k in variables.knownNotes)).map(k,
    variables.notesWhere + ': found ' + k + '; allowed: ' + variables.knownNotes.join(', '))
- name: badRemote
  expression: >-
    variables.notes[?'tessera.io/remote'].orValue('') != 'required' ? [] :
    variables.askers.filter(c, 'tessera.io/gpu' in c.resources.limits).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu" }} + 'with tessera.io/remote: required a slice of one GPU for each container') +
    variables.askers.filter(c, {{ include "tessera.cel.gpus" . }} > 1).map(c,
    {{ include "tessera.cel.found" "tessera.io/gpu-count" }} + 'with tessera.io/remote: required a slice of one GPU for each container')
- name: coreAsked
  expression: >-
    variables.askers.filter(c, 'tessera.io/gpu-core' in c.resources.limits &&
    {{ include "tessera.cel.whole" (list "tessera.io/gpu-core" "1" "6400") }}).map(c,
    quantity(string(c.resources.limits['tessera.io/gpu-core'])).asInteger()).sum() +
    variables.askers.filter(c, 'tessera.io/gpu' in c.resources.limits &&
    {{ include "tessera.cel.whole" (list "tessera.io/gpu" "1" "64") }}).map(c,
    100 * quantity(string(c.resources.limits['tessera.io/gpu'])).asInteger()).sum()
- name: badLimit
  expression: >-
    !('tessera.io/gpu-core-limit' in variables.notes) ? [] :
    variables.notes[?'tessera.io/qos'].orValue('guaranteed') != 'burstable' ?
    [variables.notesWhere + '[tessera.io/gpu-core-limit]: found \'' + variables.notes['tessera.io/gpu-core-limit'] + '\'; allowed: only with tessera.io/qos: burstable'] :
    isQuantity(variables.notes['tessera.io/gpu-core-limit']) && quantity(variables.notes['tessera.io/gpu-core-limit']).isInteger() &&
    quantity(variables.notes['tessera.io/gpu-core-limit']).asInteger() >= (variables.coreAsked > 1 ? variables.coreAsked : 1) ? [] :
    [variables.notesWhere + '[tessera.io/gpu-core-limit]: found \'' + variables.notes['tessera.io/gpu-core-limit'] + '\'; allowed: a whole number of at least the request, ' + string(variables.coreAsked)]
- name: badEnv
  expression: >-
    variables.askers.size() == 0 ? [] :
    variables.everyone.filter(c, c.?env.orValue([]).exists(e, e.name in variables.reserved || e.name.startsWith('TESSERA_'))).map(c,
    {{ include "tessera.cel.field" . }} + '.env: found ' +
    c.env.filter(e, e.name in variables.reserved || e.name.startsWith('TESSERA_'))[0].name +
    '; allowed: any variable but ' + variables.reserved.join(', ') + ' and TESSERA_*')
- name: privileged
  expression: >-
    variables.askers.size() == 0 ? [] :
    variables.everyone.filter(c, c.?securityContext.?privileged.orValue(false)).map(c,
    {{ include "tessera.cel.field" . }} + '.securityContext.privileged: found true; allowed: false in a pod with a slice')
- name: bound
  expression: >-
    variables.askers.size() > 0 && variables.podSpec.?nodeName.orValue('') != '' ?
    [variables.where + '.nodeName: found \'' + variables.podSpec.nodeName + '\'; allowed: none in a pod with a slice, which only the scheduler places'] : []
- name: otherScheduler
  expression: >-
    variables.askers.size() > 0 && !(variables.podSpec.?schedulerName.orValue('default-scheduler') in variables.schedulers) ?
    [variables.where + '.schedulerName: found \'' + variables.podSpec.?schedulerName.orValue('default-scheduler') + '\'; allowed: ' + variables.schedulers.join(', ')] : []
{{- end }}

{{/* Plain lists that the rules read: include with the root context. They come before the others. */}}
{{- define "tessera.policy.lists" -}}
- name: known
  expression: "['tessera.io/gpu-mem', 'tessera.io/gpu-core', 'tessera.io/gpu-count', 'tessera.io/gpu', 'tessera.io/slice']"
- name: knownNotes
  expression: >-
    ['tessera.io/placement', 'tessera.io/gpu-model', 'tessera.io/gpu-uuid', 'tessera.io/remote', 'tessera.io/qos',
    'tessera.io/gpu-core-limit', 'tessera.io/enforcement', 'tessera.io/assignment', 'tessera.io/gpu-lease']
- name: choices
  expression: >-
    {'tessera.io/placement': ['fragmentation', 'pack', 'spread'],
    'tessera.io/remote': ['never', 'allowed', 'required'],
    'tessera.io/qos': ['guaranteed', 'burstable', 'best-effort'], 'tessera.io/enforcement': ['0', '1', '2', '3']}
- name: reserved
  expression: >-
    ['NVIDIA_VISIBLE_DEVICES', 'CUDA_VISIBLE_DEVICES', 'CUDA_MPS_PIPE_DIRECTORY', 'CUDA_MPS_LOG_DIRECTORY',
    'CUDA_MPS_PINNED_DEVICE_MEM_LIMIT', 'CUDA_MPS_ACTIVE_THREAD_PERCENTAGE', 'CUDA_MPS_CLIENT_PRIORITY',
    'CUDA_MPS_SM_PARTITION', 'LD_PRELOAD']
{{- end }}

{{/* One validation for each list of sentences: include with (list NAME FALLBACK) ... */}}
{{- define "tessera.policy.validation" -}}
- expression: "{{ if .only }}{{ .only }} || {{ end }}variables.{{ .name }}.size() == 0"
  messageExpression: "variables.{{ .name }}[0]"
  message: {{ .message | quote }}
{{- end }}

{{- define "tessera.policy.validations" -}}
{{ include "tessera.policy.validation" (dict "name" "badPlace" "message" "slices are for ordinary containers and sidecars only") }}
{{ include "tessera.policy.validation" (dict "name" "badPodLevel" "message" "slices are for containers, not for pod-level resources") }}
{{ include "tessera.policy.validation" (dict "name" "badKey" "message" "unknown tessera.io resource") }}
{{ include "tessera.policy.validation" (dict "name" "badMem" "message" "tessera.io/gpu-mem: allowed: whole bytes from 1 to 64Ti") }}
{{- if int64 (include "tessera.contextBytes" .) }}
{{ include "tessera.policy.validation" (dict "name" "smallMem" "message" "tessera.io/gpu-mem: less than a program's context takes") }}
{{- end }}
{{ include "tessera.policy.validation" (dict "name" "badWhole" "message" "tessera.io/gpu: allowed: 1 to 64, beside no other request") }}
{{ include "tessera.policy.validation" (dict "name" "badCount" "message" "tessera.io/gpu-count: allowed: 1 to 64, beside gpu-mem or gpu-core") }}
{{ include "tessera.policy.validation" (dict "name" "badCore" "message" "tessera.io/gpu-core: allowed: 1 to 100 for each GPU, a multiple of gpu-count") }}
{{ include "tessera.policy.validation" (dict "name" "badSlot" "message" "tessera.io/slice: allowed: 1, beside a tessera.io request") }}
{{ include "tessera.policy.validation" (dict "name" "badNote" "message" "an annotation of tessera.io has a value that is not allowed") }}
{{ include "tessera.policy.validation" (dict "name" "badLimit" "message" "tessera.io/gpu-core-limit: allowed: at least the request, with tessera.io/qos: burstable") }}
{{ include "tessera.policy.validation" (dict "name" "badRemote" "message" "tessera.io/remote: required: allowed: a slice of one GPU for each container") }}
{{ include "tessera.policy.validation" (dict "name" "badEnv" "message" "a reserved environment variable is set in a pod with a slice") }}
{{- if not .Values.policies.allowPrivileged }}
{{ include "tessera.policy.validation" (dict "name" "privileged" "message" "a privileged container in a pod with a slice") }}
{{- end }}
{{- end }}

{{- define "tessera.policy.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "tessera.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}
