package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// story prints one line per event, with the seconds since the start.
type story struct {
	start time.Time

	mu   sync.Mutex
	w    io.Writer
	last audit.Verdict
}

func newStory(w io.Writer) *story { return &story{start: time.Now(), w: w, last: audit.Drift} }

func (s *story) line(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "%5.1fs  %-5s  %s\n", time.Since(s.start).Seconds(), who, fmt.Sprintf(format, args...))
}

var verbs = map[audit.ChangeType]string{audit.Opened: "opened", audit.Open: "still open", audit.Resolved: "resolved"}

func (s *story) audited(r *audit.Report, changes []audit.Change) {
	for _, c := range changes {
		if c.Finding.Severity != audit.Info {
			s.line("audit", "%s: %s (%s): %s", verbs[c.Type], c.Finding.Kind, c.Finding.Severity, c.Finding.Message)
		}
	}
	if r.Verdict == s.last {
		return
	}
	s.last = r.Verdict
	why := ""
	for _, e := range r.Chains[0].Errors {
		why = ", " + e.Source + ": " + e.Message
	}
	s.line("audit", "verdict: %s%s", r.Verdict, why)
}
