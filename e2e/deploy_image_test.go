//go:build e2e

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// onReadOnlyRoot starts the image's daemon as its user, on a read-only root with the volume mounted for its state.
const onReadOnlyRoot = `
mount --bind "$1" "$1" && mount --bind "$2" "$1/var/lib/kms-auditor" && mount -o remount,bind,ro "$1" || exit 1
exec chroot --userspec=65532:65532 "$1" /kms-auditor audit -c /var/lib/kms-auditor/config.yaml`

// runsBare fails the test unless the image's daemon audits and keeps its state over a restart with one writable volume.
func runsBare(t *testing.T, root string, s *scene) {
	place := filepath.Join(root, "var/lib/kms-auditor")
	if info, err := os.Stat(place); err != nil || info.Sys().(*syscall.Stat_t).Uid != 65532 {
		t.Fatalf("the image has no state folder that its user may write: %v", err)
	}
	volume := t.TempDir()
	must(t, os.Chown(volume, 65532, 65532))
	settings := s.settings
	settings.State = "/var/lib/kms-auditor/state.db"
	config := readable(t, settings)
	must(t, os.Rename(config, filepath.Join(volume, "config.yaml")))
	for _, sentence := range []string{"it begins its state", "it goes on with it"} {
		t.Run(sentence, func(t *testing.T) {
			p, addr := start(t, `"msg":"serving".*"addresses":\["([^"]+)"`, "unshare", []string{"--mount", "sh", "-c", onReadOnlyRoot, "bare", root, volume}, nil, nil)
			eventually(t, "an audit ends", func() bool {
				status, _ := get(t, "http://"+addr+"/-/ready")
				return status == http.StatusOK
			})
			if _, report := get(t, "http://"+addr+"/api/v1/report"); !strings.Contains(report, `"verdict":"consistent"`) && !strings.Contains(report, `"verdict": "consistent"`) {
				t.Errorf("it does not find consistent:\n%s", report)
			}
			if code := p.end(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	if info, err := os.Stat(filepath.Join(volume, "state.db")); err != nil || info.Size() == 0 {
		t.Errorf("no state is kept: %v", err)
	}
}
