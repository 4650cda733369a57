package main_test

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// seen DIGIT has an audit find an owner whose address ends in that digit. The first one is the baseline.
func seen(ts *testscript.TestScript, neg bool, args []string) {
	refuse(ts, neg || len(args) != 1)
	s, err := state.Open(ts.MkAbs("state.db"))
	ts.Check(err)
	n, err := strconv.ParseUint(args[0], 10, 8)
	ts.Check(err)
	at := time.Date(2026, 11, int(n), 12, 0, 0, 0, time.UTC)
	control := audit.Control{Owner: "0x" + strings.Repeat("0", 39) + args[0], Code: footprint.Code{Accounts: []footprint.Account{
		{Address: contract.Hex(), Role: footprint.Implementation, CodeHash: "0x" + strings.Repeat("c0", 32)}}}}
	prior := s.Prior("base")
	if len(prior.Contracts) == 0 {
		prior.Contracts = []audit.Known{{Address: contract, Since: at, Baseline: &audit.Baseline{Control: control, Since: at}}}
	}
	s.Record(&audit.Report{AuditID: "A" + args[0], FinishedAt: at, Chains: []audit.Chain{{
		Chain: "base", ChainID: 8453,
		Block:   &audit.Block{Number: 100 + n, Time: at},
		Targets: []audit.Target{{Contract: contract.Hex(), Control: &control}},
	}}}, map[string]audit.Prior{"base": prior}, nil)
	ts.Check(s.Close())
}

// hold on: this process holds state.db, as a daemon does. hold off: it carries out what is asked for, and lets go.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	refuse(ts, neg || len(args) != 1)
	w, path := ts.Value("world").(*world), ts.MkAbs("state.db")
	if args[0] == "on" {
		var err error
		w.held, err = state.Open(path)
		ts.Check(err)
		ts.Defer(func() { w.held.Close() })
		ts.Setenv("HOLDER", strconv.Itoa(os.Getpid()))
		return
	}
	ts.Check(w.held.Drain(path, nil, func(_ state.Request, err error) { ts.Check(err) }))
	ts.Check(w.held.Close())
}
