package render

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// acceptFor is how long a difference is accepted unless the operator says otherwise.
const acceptFor = 30 * 24 * time.Hour

// acceptBlock offers each finding that may be lived with as a row of the configuration's accept. The reason is left
// empty, which the configuration refuses: nobody accepts without one.
func (t *text) acceptBlock(r *audit.Report) {
	expires := r.FinishedAt.UTC().Add(acceptFor).Format(time.DateOnly)
	var rows []string
	offered := map[string]bool{} // images without a hash share a row
	for _, c := range r.Chains {
		for _, target := range c.Targets {
			for _, f := range target.Findings {
				if row := acceptRow(c.Chain, target.Contract, f, expires); f.Kind.Acceptable() && !offered[row] {
					rows, offered[row] = append(rows, row), true
				}
			}
		}
	}
	if len(rows) > 0 {
		t.printf("\nTo accept a finding until a date, fill in `reason` and add the row to your config:\naccept:\n%s", strings.Join(rows, ""))
	}
}

func acceptRow(chain, contract string, f audit.Finding, expires string) string {
	about := ""
	if f.List != "" {
		about = ", list: " + scalar(string(f.List))
	}
	if f.ID != "" {
		about += ", id: " + scalar(f.ID)
	}
	return fmt.Sprintf("  - {chain: %s, contract: %s, kind: %s%s, reason: \"\", expires: %s}\n",
		scalar(chain), scalar(contract), scalar(string(f.Kind)), about, scalar(expires))
}

// scalar is s as a double-quoted YAML scalar, in which Go's escapes mean the same and no rune moves a terminal.
func scalar(s string) string { return strconv.Quote(s) }
