package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
)

// kms-auditor, as a user would have it configured: the contracts named, with the block of their deployment, and
// everything proven.
const (
	proven   = "proven"   // the default
	searched = "searched" // without from_block: the auditor finds where the events begin
	believed = "believed" // verify: off, as the others do it
)

// modes are the ways of kms-auditor, and what a report must then reach.
var modes = map[string]struct {
	name         string
	assurance    audit.Assurance
	completeness audit.Completeness
}{
	proven:   {"kms-auditor", audit.Proven, audit.Complete},
	searched: {"without from_block", audit.Proven, audit.Complete},
	believed: {"verify: off", audit.Single, audit.Unchecked},
}

// configure writes a configuration and returns its path. Without a delay, as here, a difference is confirmed at once:
// it is the second look that is measured, not the wait.
func (w *world) configure(mode string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "schedule: \"@every 1s\"\nconfirm_delay: 0s\ntimeout: 10m\napi: {base_url: %q}\nweb: {listen: [\"127.0.0.1:0\"]}\nchains:\n", w.api.URL)
	for i := range w.size.chains {
		fmt.Fprintf(&b, "  - name: %s\n    chain_id: %s\n    providers: [{name: node, url: %q, timeout: 1m}]\n", chainName(i), w.rules.ChainID, w.rpc.URL)
		if mode == believed {
			fmt.Fprintln(&b, "    verify: off")
		}
		fmt.Fprintln(&b, "    contracts:")
		for c, at := range w.contracts {
			if w.size.chainOf(c) != i {
				continue
			}
			fmt.Fprintf(&b, "      - address: %q\n", at)
			if mode != searched {
				fmt.Fprintf(&b, "        from_block: %d\n", w.born)
			}
		}
	}
	path := filepath.Join(w.dir, mode+".yaml")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// once is kms-auditor audit --once.
func once(mode string) contender {
	m := modes[mode]
	return contender{
		name: m.name,
		run: func(w *world) (command, error) {
			path, err := w.configure(mode)
			return command{dir: w.dir, args: []string{w.auditor, "audit", "--once", "-o", "json", "-c", path}}, err
		},
		read: readReport(m.assurance, m.completeness),
	}
}
