package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/config"
)

func TestComposeMountsWhatIsThere(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Image   string
			Volumes []string
		}
		Volumes map[string]any
	}
	readYAML(t, "compose.yaml", &compose)
	for _, name := range []string{"kms-auditor", "prometheus", "alertmanager", "grafana"} {
		s, ok := compose.Services[name]
		if !ok || !strings.HasPrefix(s.Image, "${") {
			t.Errorf("service %s: %t, image %q", name, ok, s.Image)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, named := compose.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(filepath.FromSlash(source)); err != nil {
				t.Errorf("service %s: %v", name, err)
			}
		}
	}
}

// The folder of its state is the container's, and not there.
func TestTheConfigurationOfTheStackIsGood(t *testing.T) {
	b, err := os.ReadFile("kms-auditor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.ReplaceAll(string(b), "/var/lib/kms-auditor", t.TempDir())
	if here == string(b) {
		t.Fatal("it keeps no state")
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Error(err)
	}
}

func TestGOMEMLIMITIsMostOfTheMemoryLimit(t *testing.T) {
	const mib = `=?:? ?(\d+)(?:m|MiB)\b`
	for file, limit := range map[string]string{"compose.yaml": "mem_limit" + mib, "systemd/kms-auditor.service": "MemoryMax" + mib} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		number := func(pattern string) float64 {
			m := regexp.MustCompile(pattern).FindStringSubmatch(strings.ReplaceAll(string(b), "MemoryMax=1G", "MemoryMax=1024m"))
			if m == nil {
				t.Fatalf("%s has no %s", file, pattern)
			}
			n, _ := strconv.ParseFloat(m[1], 64)
			return n
		}
		if share := number("GOMEMLIMIT"+mib) / number(limit); share < 0.89 || share > 0.901 {
			t.Errorf("GOMEMLIMIT of %s is %.3f of its memory limit, want 90 %%", file, share)
		}
	}
}
