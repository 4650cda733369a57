package config_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// TestWhatTheReportOffersIsAccepted pastes the rows that the text report offers, each with a reason, into a configuration.
func TestWhatTheReportOffersIsAccepted(t *testing.T) {
	kms := common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	now := badEnv.Now()
	var findings []audit.Finding
	var want []config.Exception
	add := func(kind audit.Kind, list audit.List, id string) {
		findings = append(findings, audit.Finding{Kind: kind, List: list, ID: id})
		if kind.Acceptable() {
			want = append(want, config.Exception{Chain: "base", Exception: audit.Exception{
				Index: len(want), Contract: kms, Kind: kind, List: list, ID: id, Reason: "known", Expires: time.Date(2026, 12, 23, 23, 59, 59, 0, time.UTC),
			}})
		}
	}
	for _, kind := range audit.Kinds {
		switch {
		case !kind.OfEntry():
			add(kind, "", "")
		case kind == audit.NoHash:
			add(kind, audit.OSImage, "")
		case kind == audit.MalformedID:
			for _, raw := range []string{"", "0x12", "\x1b[1m\r\n\\\"'{}#: \xff\u202e\U0001f511é", strings.Repeat("é", sanitize.MaxLen)} {
				add(kind, audit.Device, sanitize.Quote(raw))
			}
		default:
			add(kind, audit.Device, common.HexToHash("0xab").Hex())
		}
	}
	r := &audit.Report{FinishedAt: now, Chains: []audit.Chain{{Chain: "base", Targets: []audit.Target{{Contract: kms.Hex(), Findings: findings}}}}}
	var b bytes.Buffer
	if err := render.Text(&b, r, render.TextOptions{}); err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(b.String(), "\naccept:\n")
	block, _, _ = strings.Cut(block, "\n\n")
	env := config.Env{Now: badEnv.Now}
	if _, err := config.Parse([]byte("accept:\n"+block), env); err == nil || !strings.Contains(err.Error(), "accept[0].reason: must be given") {
		t.Errorf("without a reason: %v", err)
	}
	cfg, err := config.Parse([]byte("accept:\n"+strings.ReplaceAll(block, `reason: ""`, "reason: known")), env)
	if err != nil {
		t.Fatalf("%v in\n%s", err, block)
	}
	if d := cmp.Diff(want, cfg.Accept); d != "" {
		t.Errorf("offered (-) and accepted (+) differ:\n%s", d)
	}
}
