package k8s_test

import (
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
)

func TestKustomize(t *testing.T) {
	const base = "ConfigMap kms-auditor, Deployment kms-auditor, "
	for folder, want := range map[string]string{
		"base":       base + "Service kms-auditor",
		"monitoring": base + "PrometheusRule kms-auditor, Service kms-auditor, ServiceMonitor kms-auditor",
		"once":       "ConfigMap kms-auditor-once, CronJob kms-auditor-once",
	} {
		t.Run(folder, func(t *testing.T) {
			objects := decode(t, kustomize(t, "kubernetes/"+folder))
			sound(t, objects)
			if got := names(objects); got != want {
				t.Errorf("it has %s, want %s", got, want)
			}
		})
	}
}

func TestHelm(t *testing.T) {
	const base = "ConfigMap kms-auditor, Deployment kms-auditor, "
	on := map[string]any{"enabled": true}
	for _, tt := range []struct {
		sentence string
		values   map[string]any
		want     string
	}{
		{"by default there is one process and a service", nil, base + "Service kms-auditor"},
		{"with all that can be switched on",
			map[string]any{"serviceMonitor": on, "prometheusRule": on, "dashboard": on, "once": on, "persistence": map[string]any{"enabled": true, "storageClassName": "fast"},
				"podAnnotations": map[string]any{"a": "b"}, "nodeSelector": map[string]any{"disk": "ssd"}, "imagePullSecrets": []any{map[string]any{"name": "pull"}}},
			"ConfigMap kms-auditor, ConfigMap kms-auditor-dashboard, CronJob kms-auditor-once, Deployment kms-auditor, " +
				"PersistentVolumeClaim kms-auditor, PrometheusRule kms-auditor, Service kms-auditor, ServiceMonitor kms-auditor"},
		{"two replicas", map[string]any{"replicas": 2}, base + "Service kms-auditor"},
		{"a shard for each chain", map[string]any{"shards": []any{shard("l2", "base"), shard("l1", "ethereum")}},
			"ConfigMap kms-auditor, Deployment kms-auditor-l1, Deployment kms-auditor-l2, Service kms-auditor"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			text, err := helm(tt.values)
			if err != nil {
				t.Fatal(err)
			}
			objects := decode(t, text)
			sound(t, objects)
			if got := names(objects); got != tt.want {
				t.Errorf("it has %s, want %s", got, tt.want)
			}
		})
	}
}

func shard(name, chain string) map[string]any {
	return map[string]any{"name": name, "chains": []any{chain}}
}

func TestAShardAuditsItsOwnChains(t *testing.T) {
	text, err := helm(map[string]any{"shards": []any{shard("l2", "base"), shard("l1", "ethereum")}})
	if err != nil {
		t.Fatal(err)
	}
	d := decode(t, text)["Deployment kms-auditor-l1"].(*apps.Deployment)
	want := []string{"audit", "--config=/etc/kms-auditor/config.yaml", "--chain=ethereum"}
	if got := d.Spec.Template.Spec.Containers[0].Args; !slices.Equal(got, want) {
		t.Errorf("it runs %q, want %q", got, want)
	}
	other := decode(t, text)["Deployment kms-auditor-l2"].(*apps.Deployment)
	if d.Spec.Selector.MatchLabels["app.kubernetes.io/component"] == other.Spec.Selector.MatchLabels["app.kubernetes.io/component"] {
		t.Error("both shards select the same pods")
	}
}

func TestTwoProcessesShareNoState(t *testing.T) {
	_, err := helm(map[string]any{"replicas": 2, "persistence": map[string]any{"enabled": true}})
	if err == nil || !strings.Contains(err.Error(), "persistence takes one replica") {
		t.Errorf("two replicas on one volume: %v", err)
	}
}
