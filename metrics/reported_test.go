package metrics_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/metrics"
)

func written(t *testing.T, r *audit.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := metrics.Write(&b, r, metrics.Build{Version: "1.0.0", Revision: "abc", GoVersion: "go1.26"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A file shows what the daemon shows, except what only the daemon counts or is configured with.
func TestAFileShowsWhatTheDaemonShows(t *testing.T) {
	for sentence, target := range map[string]audit.Target{"drift": drifted(), "consistent": consistent(), "unknown": unread()} {
		t.Run(sentence, func(t *testing.T) {
			reg, m := fresh()
			m.Report(report(target))
			counted := regexp.MustCompile(`^kms_auditor_(audits_total|audit_duration|rpc_|api_|next_audit|config_|chain_info|event_scan|provider_head|heartbeats|writes|unconfirmed)`)
			never := `kms_auditor_last_comparison_timestamp_seconds{chain="base",contract="` + contract + `"} 0`
			var want []string
			for _, line := range series(t, reg, "[a-z_]+") {
				if !counted.MatchString(line) && line != never {
					want = append(want, line)
				}
			}
			var got []string
			for line := range strings.Lines(written(t, report(target))) {
				if !strings.HasPrefix(line, "#") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("series (-daemon +file):\n%s", diff)
			}
		})
	}
}

func TestAFileOfAChainWithoutAComparison(t *testing.T) {
	text := written(t, report())
	for series, want := range map[string]bool{
		`kms_auditor_last_audit_timestamp_seconds{chain="base"} `: true,
		"kms_auditor_last_comparison_timestamp_seconds{":          false,
		"kms_auditor_target_verdict{":                             false,
	} {
		if strings.Contains(text, "\n"+series) != want {
			t.Errorf("%s in the file: %t", series, !want)
		}
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestAFullDiskIsAnError(t *testing.T) {
	if err := metrics.Write(full{}, report(), metrics.Build{}); !errors.Is(err, errFull) {
		t.Errorf("Write = %v", err)
	}
}
