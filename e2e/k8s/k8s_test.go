// Package k8s_test renders deploy's Kubernetes files with kustomize and Helm, and decodes them as strictly as the API server. It is
// a separate module, so that the program does not depend on Kubernetes.
package k8s_test

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const deploy = "../../deploy/"

// kustomize builds a folder.
func kustomize(t *testing.T, folder string) string {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), deploy+folder)
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// helm renders the chart with values.
func helm(values map[string]any) (string, error) {
	chart, err := loader.Load(deploy + "helm/kms-auditor")
	if err != nil {
		return "", err
	}
	release := chartutil.ReleaseOptions{Name: "kms-auditor", Namespace: "monitoring", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			fmt.Fprintf(&out, "---\n%s\n", files[name])
		}
	}
	return out.String(), nil
}

// decode decodes every document. Unknown kinds, unknown fields, wrong types and duplicate fields are errors.
func decode(t *testing.T, text string) map[string]runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apps.AddToScheme, batch.AddToScheme, core.AddToScheme, monitoring.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	frames := json.YAMLFramer.NewFrameReader(io.NopCloser(strings.NewReader(text)))
	out := map[string]runtime.Object{}
	for buf := make([]byte, 1<<20); ; {
		n, err := frames.Read(buf)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		doc := string(buf[:n])
		if strings.TrimSpace(strings.TrimPrefix(doc, "---")) == "" {
			continue
		}
		o, kind, err := strict.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Errorf("decoding: %v\n%s", err, doc)
			continue
		}
		named := o.(interface{ GetName() string })
		out[kind.Kind+" "+named.GetName()] = o
	}
}

// guarded fails the test unless a pod has the least privileges.
func guarded(t *testing.T, name string, p core.PodSpec) {
	t.Helper()
	s, c := p.SecurityContext, p.Containers[0].SecurityContext
	switch {
	case s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0:
		t.Errorf("%s may run as root", name)
	case s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault:
		t.Errorf("%s has no seccomp profile", name)
	case c == nil || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem:
		t.Errorf("the root file system of %s is writable", name)
	case c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}):
		t.Errorf("%s may gain privileges", name)
	case p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken:
		t.Errorf("%s gets a service account token", name)
	case p.Containers[0].Resources.Limits.Memory().IsZero() || p.Containers[0].Resources.Requests.Cpu().IsZero():
		t.Errorf("%s has no resources", name)
	}
	if share := float64(goMemLimit(t, p.Containers[0])) / float64(p.Containers[0].Resources.Limits.Memory().Value()); share < 0.89 || share > 0.901 {
		t.Errorf("GOMEMLIMIT of %s is %.3f of its memory limit, want 90 %%", name, share)
	}
	for _, m := range p.Containers[0].VolumeMounts {
		if !slices.ContainsFunc(p.Volumes, func(v core.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("%s mounts %s, which it does not have", name, m.Name)
		}
	}
}

// goMemLimit returns the container's GOMEMLIMIT in bytes.
func goMemLimit(t *testing.T, c core.Container) int64 {
	t.Helper()
	for _, e := range c.Env {
		if e.Name == "GOMEMLIMIT" {
			q, err := resource.ParseQuantity(strings.TrimSuffix(e.Value, "B")) // Go's MiB is Kubernetes' Mi
			if err != nil {
				t.Fatalf("GOMEMLIMIT %q: %v", e.Value, err)
			}
			return q.Value()
		}
	}
	return 0
}

// sound fails the test if objects are inconsistent.
func sound(t *testing.T, objects map[string]runtime.Object) {
	t.Helper()
	var pods []labels.Set
	for name, o := range objects {
		switch o := o.(type) {
		case *apps.Deployment:
			guarded(t, name, o.Spec.Template.Spec)
			pods = append(pods, o.Spec.Template.Labels)
			if !labels.SelectorFromSet(o.Spec.Selector.MatchLabels).Matches(labels.Set(o.Spec.Template.Labels)) {
				t.Errorf("%s does not select its own pods", name)
			}
			c := o.Spec.Template.Spec.Containers[0]
			if c.LivenessProbe == nil || c.LivenessProbe.HTTPGet.Path != "/-/healthy" || c.ReadinessProbe == nil || c.ReadinessProbe.HTTPGet.Path != "/-/ready" {
				t.Errorf("%s has no probes", name)
			} else if live, ready := c.LivenessProbe, c.ReadinessProbe; live.TimeoutSeconds < 5 || ready.TimeoutSeconds < 5 || live.PeriodSeconds <= live.TimeoutSeconds {
				t.Errorf("the probes of %s give up after %d s and %d s", name, live.TimeoutSeconds, ready.TimeoutSeconds)
			}
			for _, v := range o.Spec.Template.Spec.Volumes {
				if v.ConfigMap != nil && objects["ConfigMap "+v.ConfigMap.Name] == nil {
					t.Errorf("%s has no ConfigMap %s", name, v.ConfigMap.Name)
				}
			}
		case *batch.CronJob:
			guarded(t, name, o.Spec.JobTemplate.Spec.Template.Spec)
			if args := o.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, "--once") {
				t.Errorf("%s runs %q for ever", name, args)
			}
		}
	}
	for name, o := range objects {
		switch o := o.(type) {
		case *core.Service:
			if !slices.ContainsFunc(pods, func(p labels.Set) bool { return labels.SelectorFromSet(o.Spec.Selector).Matches(p) }) {
				t.Errorf("%s selects no pod", name)
			}
		case *monitoring.ServiceMonitor:
			s, ok := objects["Service kms-auditor"].(*core.Service)
			if !ok || !labels.SelectorFromSet(o.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels)) || s.Labels[o.Spec.JobLabel] != "kms-auditor" {
				t.Errorf("%s does not scrape the service as the job kms-auditor", name)
			}
		case *monitoring.PrometheusRule:
			if len(o.Spec.Groups) == 0 {
				t.Errorf("%s has no alerts", name)
			}
		}
	}
}

// names lists the objects, generated ConfigMaps without the hash of their content.
func names(objects map[string]runtime.Object) string {
	var out []string
	for name := range objects {
		out = append(out, regexp.MustCompile(`^(ConfigMap .+)-[0-9a-z]{10}$`).ReplaceAllString(name, "$1"))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
