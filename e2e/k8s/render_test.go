package k8s_test

import (
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
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

func TestGOMEMLIMITFollowsTheMemoryLimit(t *testing.T) {
	for limit, want := range map[any]int64{"512Mi": 483183820, "1.5Gi": 1449551462, "200M": 180e6, 1000000000: 900e6, nil: 0} {
		resources := map[string]any{"limits": map[string]any{"memory": limit}}
		text, err := helm(map[string]any{"resources": resources})
		if err != nil {
			t.Fatal(err)
		}
		d := decode(t, text)["Deployment kms-auditor"].(*apps.Deployment)
		if got := goMemLimit(t, d.Spec.Template.Spec.Containers[0]); got != want {
			t.Errorf("of a limit of %v GOMEMLIMIT is %d, want %d", limit, got, want)
		}
	}
	_, err := helm(map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": "1Xi"}}})
	if err == nil || !strings.Contains(err.Error(), "unknown unit") {
		t.Errorf("a limit of 1Xi: %v", err)
	}
}

func TestTheExternalURLIsConfigured(t *testing.T) {
	const url, key = "https://kms-audit.example.com", `web: {external_url: "https://kms-audit.example.com"}`
	const config = "state: /var/lib/kms-auditor/state.db"
	checksum := func(values map[string]any, want string) string {
		t.Helper()
		text, err := helm(values)
		if err != nil {
			t.Fatal(err)
		}
		objects := decode(t, text)
		if got := objects["ConfigMap kms-auditor"].(*core.ConfigMap).Data["config.yaml"]; got != want {
			t.Errorf("config.yaml is %q, want %q", got, want)
		}
		return objects["Deployment kms-auditor"].(*apps.Deployment).Spec.Template.Annotations["checksum/config"]
	}
	with := checksum(map[string]any{"externalURL": url}, config+"\n"+key)
	if checksum(nil, config) == with {
		t.Error("another URL does not restart the pods")
	}
	checksum(map[string]any{"externalURL": url, "config": "state: x"}, "state: x\n"+key)
	if _, err := helm(map[string]any{"externalURL": url, "config": "web: {reload: true}\n"}); err == nil || !strings.Contains(err.Error(), "has a key web") {
		t.Errorf("a config with web: %v", err)
	}
}

// The rules have anchors, which kustomize and Helm take apart.
func TestEachAlertHasItsTexts(t *testing.T) {
	text, err := helm(map[string]any{"prometheusRule": map[string]any{"enabled": true}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"Helm": text, "kustomize": kustomize(t, "kubernetes/monitoring")} {
		count := 0
		for _, g := range decode(t, text)["PrometheusRule kms-auditor"].(*monitoring.PrometheusRule).Spec.Groups {
			for _, r := range g.Rules {
				if r.Alert != "" {
					count++
				}
				if r.Alert != "" && (r.Annotations["summary"] == "" || r.Annotations["runbook_url"] == "") {
					t.Errorf("%s: %s has the annotations %q", name, r.Alert, r.Annotations)
				}
			}
		}
		if count < 18 {
			t.Errorf("%s has %d alerts", name, count)
		}
	}
}
