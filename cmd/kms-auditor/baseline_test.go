package main_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
)

// use opens state.db of the script and what it remembers.
func use(ts *testscript.TestScript) (*history.Store, *memory.Memory) {
	s, err := history.Open(ts.MkAbs("state.db"))
	ts.Check(err)
	m, err := memory.New(s)
	ts.Check(err)
	return s, m
}

// seen DIGIT has an audit find an owner whose address ends in that digit. The first one is the baseline.
func seen(ts *testscript.TestScript, neg bool, args []string) {
	refuse(ts, neg || len(args) != 1)
	s, m := use(ts)
	defer s.Close()
	n, err := strconv.ParseUint(args[0], 10, 8)
	ts.Check(err)
	at := time.Date(2026, 11, int(n), 12, 0, 0, 0, time.UTC)
	control := audit.Control{Owner: "0x" + strings.Repeat("0", 39) + args[0], CodeHash: "0x" + strings.Repeat("c0", 32)}
	ts.Check(m.Baselines(8453).Begin(contract, audit.Baseline{Control: control, Since: at}))
	ts.Check(m.Keep(&audit.Report{AuditID: "A" + args[0], FinishedAt: at, Chains: []audit.Chain{{
		Chain: "base", ChainID: 8453,
		Block:   &audit.Block{Number: 100 + n, Time: at},
		Targets: []audit.Target{{Contract: contract.Hex(), Control: &control}},
	}}}, nil, nil))
}

// hold on: this process holds state.db, as a daemon does. hold off: it applies what is asked for, and lets go.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	refuse(ts, neg || len(args) != 1)
	w := ts.Value("world").(*world)
	if args[0] == "on" {
		w.held, w.memory = use(ts)
		ts.Defer(func() { w.held.Close() })
		ts.Setenv("HOLDER", strconv.Itoa(os.Getpid()))
		return
	}
	ts.Check(w.memory.Take(filepath.Join(ts.MkAbs("."), "state.db"), func(_ memory.Request, err error) { ts.Check(err) }))
	ts.Check(w.held.Close())
}
