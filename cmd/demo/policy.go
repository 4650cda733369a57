package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// round is a contract without an API and the operator's committed configuration.
type round struct {
	kms       *testchain.KMS
	head      string // of the configuration, before the contracts
	contracts string
	stdout    io.Writer
}

// policyRound shows how a contract without an API is audited: snapshot, review, commit, audit.
func policyRound(ctx context.Context, stdout io.Writer) error {
	at := testchain.Address("kms")
	chain, err := testchain.Start(testchain.Options{ChainID: 8453, Preload: []testchain.Preload{{Address: at}}})
	if err != nil {
		return fmt.Errorf("starting the chain: %w", err)
	}
	defer chain.Close()
	chain.Commit()
	r := &round{kms: chain.KMS(at), stdout: stdout}
	if err := r.kms.Seed(ctx, []common.Hash{mustID(device)}, []common.Hash{mustID(image053)}); err != nil {
		return err
	}
	r.head = fmt.Sprintf("confirm_delay: 0s\nchains:\n  - name: own\n    chain_id: 8453\n    block: latest\n    claims: none   # no API covers it\n    providers: [{name: in-process, url: %q}]\n", chain.URL())
	r.contracts = fmt.Sprintf("    contracts:\n      - address: %q\n", at.Hex())
	fmt.Fprintf(stdout, "A KMS without an API, and without a policy yet:\n\n%s%s\n", r.head, r.contracts)
	for _, step := range []struct {
		tell string
		do   func(context.Context) error
	}{
		{"kms-auditor audit --once", r.audit},
		{"kms-auditor policy snapshot      # review it, add it to the configuration, commit it", r.snapshot},
		{"kms-auditor audit --once", r.audit},
		{"# the contract's owner allows OS image 0xbd36…", func(ctx context.Context) error { return r.kms.AllowImage(ctx, mustID(image059)) }},
		{"kms-auditor audit --once", r.audit},
		{"kms-auditor policy diff          # review what would change", r.diff},
		{"kms-auditor policy snapshot      # the change is wanted: commit it", r.snapshot},
		{"kms-auditor audit --once", r.audit},
	} {
		fmt.Fprintf(stdout, "$ %s\n", step.tell)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// report audits once with the committed configuration.
func (r *round) report(ctx context.Context) (*audit.Report, audit.Policy, error) {
	cfg, err := config.Parse([]byte(r.head+r.contracts), config.Env{})
	if err != nil {
		return nil, audit.Policy{}, err
	}
	d, err := daemon.New(cfg, daemon.Options{Build: metrics.Build{Version: "demo", Revision: "demo", GoVersion: runtime.Version()}, Log: zap.NewNop(), Once: true})
	if err != nil {
		return nil, audit.Policy{}, err
	}
	defer d.Close()
	return d.Once(ctx), cfg.Chains[0].Contracts[0].Policy, nil
}

func (r *round) audit(ctx context.Context) error {
	report, _, err := r.report(ctx)
	if err != nil {
		return err
	}
	t := report.Chains[0].Targets[0]
	for _, reason := range t.Reasons {
		fmt.Fprintf(r.stdout, "  %s\n", reason)
	}
	for _, f := range t.Findings {
		fmt.Fprintf(r.stdout, "  %s %s: %s\n", f.Severity, f.Kind, f.Message)
	}
	fmt.Fprintf(r.stdout, "  verdict: %s\n\n", report.Verdict)
	return nil
}

func (r *round) snapshot(ctx context.Context) error {
	report, _, err := r.report(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := render.Snapshot(&b, report); err != nil {
		return err
	}
	r.contracts = b.String()
	fmt.Fprintln(r.stdout, r.contracts)
	return nil
}

func (r *round) diff(ctx context.Context) error {
	report, policy, err := r.report(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := render.Show(&b, render.NewPolicyDiff(report, func(string, string) audit.Policy { return policy }), render.TextOptions{}, false); err != nil {
		return err
	}
	fmt.Fprintln(r.stdout, b.String())
	return nil
}
