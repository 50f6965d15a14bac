{{- define "archestra.chart" -}}
app.kubernetes.io/part-of: archestra
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* An image: dict "of" an entry of images, "root" the top. */ -}}
{{- define "archestra.image" -}}
{{- with .of -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- /* What the pods have in common. */ -}}
{{- define "archestra.pod" -}}
automountServiceAccountToken: false
# The variables that Kubernetes makes of Services begin as those of the binary do: KEY_VAULT_, CHAT_GATEWAY_.
enableServiceLinks: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "archestra.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "archestra.probes" -}}
# Answered from before anything else is reached, so a long change of the schema is no failure.
startupProbe:
  httpGet: { path: /livez, port: probes }
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: { path: /livez, port: probes }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: probes }
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{- /* Spread over nodes and zones: dict "name", and "hosts" for what happens if there is no node more. */ -}}
{{- define "archestra.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ .hosts }}
    nodeTaintsPolicy: Honor
    matchLabelKeys: [pod-template-hash]
    labelSelector: { matchLabels: { app.kubernetes.io/name: {{ .name }} } }
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    nodeTaintsPolicy: Honor
    matchLabelKeys: [pod-template-hash]
    labelSelector: { matchLabels: { app.kubernetes.io/name: {{ .name }} } }
{{- end }}

{{- /* 288 is 0440: for the group of the pod alone. */ -}}
{{- define "archestra.secret" -}}
- name: {{ .volume }}
  secret: { secretName: {{ .secret }}, defaultMode: 288 }
{{- end }}

{{- /* Options that both services have. */ -}}
{{- define "archestra.telemetry" -}}
{{- with .Values.telemetry }}
{{- with .logFilter }}
- {{ printf "--log-filter=%s" . | quote }}
{{- end }}
{{- if .otlpEndpoint }}
- {{ printf "--otlp-endpoint=%s" .otlpEndpoint | quote }}
- --otlp-protocol={{ .otlpProtocol }}
{{- end }}
{{- if not (kindIs "invalid" .traceSampleRatio) }}
- --trace-sample-ratio={{ .traceSampleRatio }}
{{- end }}
{{- end }}
{{- end }}
