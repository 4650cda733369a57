package audit

import "time"

// ChangeType tells what became of a finding; the values are the log events.
type ChangeType string

// The change types.
const (
	Opened   ChangeType = "finding_opened"
	Open     ChangeType = "finding_open"
	Resolved ChangeType = "finding_resolved"
)

// Change is a finding that opened, is open still, or was resolved.
type Change struct {
	Type      ChangeType
	Chain     string
	Contract  string
	Finding   Finding
	FirstSeen time.Time
}
