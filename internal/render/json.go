// Package render writes an audit's report for readers: people at a terminal, and programs.
// It decides nothing: what it shows is what the report says, in the report's words.
package render

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/kms-auditor/kms-auditor/audit"
)

// JSON writes r as docs/report.schema.json describes it, indented and with a final newline.
// Equal reports give equal bytes.
func JSON(w io.Writer, r *audit.Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("writing report %s as JSON: %w", r.AuditID, err)
	}
	return nil
}
