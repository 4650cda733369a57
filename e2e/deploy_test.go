//go:build e2e

package e2e_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestTheServiceIsHardened(t *testing.T) {
	t.Parallel()
	const unit = "../deploy/systemd/kms-auditor.service"
	// The unit's program is not installed here. That must be the only complaint.
	out, _ := exec.Command("systemd-analyze", "verify", unit).CombinedOutput()
	if said := regexp.MustCompile(`(?m)^.*Command /usr/local/bin/kms-auditor is not executable.*\n`).ReplaceAll(out, nil); len(said) > 0 {
		t.Errorf("systemd-analyze verify:\n%s", said)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", unit).CombinedOutput()
	must(t, err)
	version, err := exec.Command("systemd-analyze", "--version").Output()
	must(t, err)
	noted := regexp.MustCompile(`systemd-analyze security \((systemd \d+)\): ([\d.]+)`).FindStringSubmatch(readFile(t, unit))
	got := regexp.MustCompile(`Overall exposure level for kms-auditor.service: ([\d.]+) OK`).FindSubmatch(out)
	switch {
	case noted == nil || got == nil:
		t.Errorf("the unit's comment has %q, systemd-analyze security says\n%s", noted, out)
	case strings.HasPrefix(string(version), noted[1]) && noted[2] != string(got[1]):
		t.Errorf("systemd-analyze security says %s, the unit's comment has %s", got[1], noted[2])
	}
}
