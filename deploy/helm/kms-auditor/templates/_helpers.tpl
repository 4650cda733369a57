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
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
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
