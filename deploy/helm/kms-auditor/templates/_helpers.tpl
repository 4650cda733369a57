{{- define "kms-auditor.name" -}}
{{- if contains "kms-auditor" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-kms-auditor" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "kms-auditor.selector" -}}
app.kubernetes.io/name: kms-auditor
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kms-auditor.labels" -}}
{{ include "kms-auditor.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "kms-auditor.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kms-auditor.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- with dig "limits" "memory" "" .Values.resources }}
env: [{name: GOMEMLIMIT, value: {{ include "kms-auditor.gomemlimit" . | quote }}}]
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* 90 % of a quantity of memory, in bytes. */}}
{{- define "kms-auditor.gomemlimit" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := regexFind "[A-Za-z]*$" (toString .) }}
{{- if not (hasKey $units $unit) }}{{ fail (printf "resources.limits.memory: unknown unit in %v" .) }}{{ end }}
{{- mulf (trimSuffix $unit (toString .) | float64) (get $units $unit) 0.9 | int64 }}
{{- end }}

{{- define "kms-auditor.config" -}}
{{ .Values.config | trimSuffix "\n" }}
{{ with .Values.externalURL }}
{{- if regexMatch "(?m)^web:" $.Values.config }}{{ fail "externalURL: config has a key web; set external_url there" }}{{ end }}
{{- printf "web: {external_url: %q}\n" . }}
{{- end }}
{{- end }}

{{- define "kms-auditor.mounts" -}}
- {name: config, mountPath: /etc/kms-auditor, readOnly: true}
- {name: secrets, mountPath: /run/secrets/kms-auditor, readOnly: true}
- {name: state, mountPath: /var/lib/kms-auditor}
{{- end }}

{{- define "kms-auditor.volumes" -}}
- name: config
  configMap: {name: {{ include "kms-auditor.name" . }}}
- name: secrets
  secret: {secretName: {{ .Values.secretName }}, optional: true, defaultMode: 0440}
{{- end }}
