package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
)

// SARIF writes r as one run of SARIF 2.1.0: a rule for each kind, a result for each finding and each accepted difference. If
// something could not be checked, the invocation is unsuccessful and has a notification for it.
//
// Code scanning shows a result at a line of a file. Findings have none, so they are located at the first line of the configuration, or
// without one at CHAIN/CONTRACT, a file that need not exist.
func SARIF(w io.Writer, r *audit.Report, config string) error {
	s := sarif{r, config, map[string]int{}}
	results := []fields{}
	for c, t := range Targets(r) {
		for _, f := range allFound(t) {
			results = append(results, s.result(c, t, f))
		}
	}
	run := fields{
		"tool", fields{"driver", given("name", "kms-auditor", "version", r.Version, "semanticVersion", semantic(r.Version), "informationUri", about, "rules", rules())},
		"automationDetails", fields{"id", "kms-auditor/" + r.AuditID}, // CATEGORY/RUN
		"invocations", []fields{invocation(r)},
		"results", results,
		"properties", fields{"verdict", r.Verdict},
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return wrote(r, "SARIF", enc.Encode(fields{"$schema", sarifSchema, "version", "2.1.0", "runs", []fields{run}}))
}

// fields is a JSON object whose fields keep their order, as the OASIS standard names them in chapter 3 of SARIF 2.1.0: a name, its
// value, the next name, and so on.
type fields []any

// given are the fields that have a value.
func given(all ...any) (f fields) {
	for i := 0; i < len(all); i += 2 {
		if !reflect.ValueOf(all[i+1]).IsZero() {
			f = append(f, all[i], all[i+1])
		}
	}
	return f
}

func (f fields) MarshalJSON() ([]byte, error) {
	b := []byte("{")
	for i := 0; i < len(f); i += 2 {
		value, err := json.Marshal(f[i+1])
		if err != nil {
			return nil, err
		}
		b = fmt.Appendf(b, "%q:%s,", f[i], value) // the names are ours
	}
	return append(bytes.TrimSuffix(b, []byte(",")), '}'), nil
}

const (
	about       = "https://github.com/kms-auditor/kms-auditor"
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

var semver = regexp.MustCompile(`^v?(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

// semantic returns the version without its v if it is one of semver.org, or "".
func semantic(version string) string { return strings.TrimPrefix(semver.FindString(version), "v") }

var sarifLevels = map[audit.Severity]string{audit.Critical: "error", audit.Warning: "warning", audit.Info: "note"}

// scores sort findings in code scanning: over 9 is critical, 4 to 6.9 medium, under 4 low.
var scores = map[audit.Severity]string{audit.Critical: "9.5", audit.Warning: "5.0", audit.Info: "1.0"}

func rules() (out []fields) {
	for _, k := range audit.Kinds {
		meaning := fields{"text", capital(k.Meaning())}
		out = append(out, fields{
			"id", k, "shortDescription", meaning, "fullDescription", meaning,
			"help", fields{"text", "What it means, when it is harmless, and what to do first: " + k.Runbook()},
			"helpUri", k.Runbook(),
			"defaultConfiguration", fields{"level", sarifLevels[k.Severity()]},
			"properties", fields{"precision", "very-high", "security-severity", scores[k.Severity()], "tags", []string{"security"}},
		})
	}
	return out
}

// invocation reports whether everything was checked, and the reasons if not.
func invocation(r *audit.Report) fields {
	ok, notifications := r.Verdict != audit.Unknown, []fields{}
	say := func(level string, parts ...string) {
		notifications = append(notifications, fields{"level", level, "message", message(strings.Join(parts, ": "))})
	}
	for _, c := range r.Chains {
		level := "warning" // a source failed without effect on the verdict
		if unchecked(&c) {
			level, ok = "error", false
		}
		for _, e := range c.Errors {
			say(level, c.Chain, e.Source, e.Message)
		}
		for _, t := range c.Targets {
			for _, reason := range t.Reasons {
				say("error", c.Chain+" "+t.Contract, reason)
			}
		}
	}
	if !ok && len(notifications) == 0 {
		say("error", "not everything could be checked: the verdict is "+r.Verdict.String())
	}
	return fields{"executionSuccessful", ok, "startTimeUtc", r.StartedAt.UTC(), "endTimeUtc", r.FinishedAt.UTC(), "toolExecutionNotifications", notifications}
}

type sarif struct {
	report *audit.Report
	config string
	seen   map[string]int // by fingerprint
}

// result is the result of a finding about t. Its properties begin with those of the entry.
func (s *sarif) result(c *audit.Chain, t *audit.Target, f found) fields {
	e, suppressions := audit.Entry{Assurance: t.Assurance}, []fields{}
	if f.entry != nil {
		e = *f.entry
	}
	properties := given("claim", e.Claim, "on_chain", e.OnChain, "policy", e.Policy, "assurance", e.Assurance, "block", c.Block)
	if since := openSince(s.report, f.Finding); since != "" {
		f.Message, properties = f.Message+" ("+since+")", nil
	}
	if a := f.accepted; a != nil {
		f.FirstSeen = e.FirstSeen
		suppressions = []fields{{"kind", "external", "status", "accepted", "justification", escape(accepting(a.Reason, a.Expires))}}
	}
	name := nonEmpty(Plain(c.Chain), Plain(t.Contract), Plain(string(f.List)), Plain(f.ID))
	return fields{
		"ruleId", f.Kind, "ruleIndex", slices.Index(audit.Kinds, f.Kind), "level", sarifLevels[f.Severity], "message", message(f.Message),
		"locations", []fields{{
			"physicalLocation", fields{"artifactLocation", fields{"uri", s.place(c, t)}, "region", fields{"startLine", 1}},
			"logicalLocations", []fields{{"name", name[len(name)-1], "fullyQualifiedName", strings.Join(name, "/"), "kind", "resource"}},
		}},
		// Code scanning reads only this key. Without it, all results of a kind would be one, as they share a line.
		"partialFingerprints", fields{"primaryLocationLineHash", s.fingerprint(c.Chain, t.Contract, string(f.Kind), string(f.List), f.ID)},
		"suppressions", suppressions, // either all results of a run have the list or none has
		"properties", append(properties, given("first_seen", f.FirstSeen, "state", f.State, "last_confirmed_at", f.LastConfirmedAt)...),
	}
}

// fingerprint is the same in every report with the finding. Findings that share all parts are numbered.
func (s *sarif) fingerprint(parts ...string) string {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(parts, "\x00"))))[:32]
	s.seen[sum]++
	return fmt.Sprintf("%s:%d", sum, s.seen[sum])
}

func (s *sarif) place(c *audit.Chain, t *audit.Target) string {
	path := Plain(c.Chain) + "/" + Plain(t.Contract)
	if s.config != "" {
		path = filepath.ToSlash(filepath.Clean(s.config))
	}
	u := url.URL{Path: path}
	if strings.HasPrefix(path, "/") {
		u.Scheme = "file"
	}
	return u.String()
}

func message(s string) fields { return fields{"text", escape(s)} }

// escape escapes text for SARIF: braces are placeholders unless doubled, and a foreign name must not become a link,
// [text](target).
func escape(s string) string {
	return strings.NewReplacer("{", "{{", "}", "}}", "](", "] (").Replace(Plain(s))
}

// capital makes a sentence: a capital first letter and a full stop.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
