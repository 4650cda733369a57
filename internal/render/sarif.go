package render

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// SARIF writes r as one run of SARIF 2.1.0: a rule for each kind, a result for each finding and each accepted
// difference. What could not be checked is a notification of an invocation that was not successful.
//
// Code scanning shows a result at a place in a file. Nothing here is in one: the place is the first line of the
// configuration, as it was named, or where the built-in one applied a file CHAIN/CONTRACT, which need not exist.
func SARIF(w io.Writer, r *audit.Report, config string) error {
	s := sarif{config: config, seen: map[string]int{}}
	run := sarifRun{
		Tool:        object{"driver": sarifDriver{Name: "kms-auditor", Version: r.Version, Semantic: semantic(r.Version), About: about, Rules: rules()}},
		Automation:  object{"id": "kms-auditor/" + r.AuditID}, // CATEGORY/RUN
		Invocations: []sarifInvocation{invocation(r)},
		Results:     []sarifResult{},
		Properties:  object{"verdict": r.Verdict},
	}
	for i := range r.Chains {
		for j := range r.Chains[i].Targets {
			run.Results = append(run.Results, s.results(r, &r.Chains[i], &r.Chains[i].Targets[j])...)
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return wrote(r, "SARIF", enc.Encode(sarifLog{sarifSchema, "2.1.0", []sarifRun{run}}))
}

const (
	about       = "https://github.com/kms-auditor/kms-auditor"
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

var semver = regexp.MustCompile(`^v?((0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)$`)

// semantic is the version in the form of semver.org, which has no v; empty where it is none.
func semantic(version string) string {
	if m := semver.FindStringSubmatch(version); m != nil {
		return m[1]
	}
	return ""
}

var sarifLevels = map[audit.Severity]string{audit.Critical: "error", audit.Warning: "warning", audit.Info: "note"}

// scores are what code scanning sorts security findings by: over 9 is critical, 4 to 6.9 medium, under 4 low.
var scores = map[audit.Severity]string{audit.Critical: "9.5", audit.Warning: "5.0", audit.Info: "1.0"}

func rules() []sarifRule {
	var out []sarifRule
	for _, k := range audit.Kinds {
		meaning := object{"text": capital(meanings[k])}
		out = append(out, sarifRule{
			ID: string(k), Short: meaning, Full: meaning,
			Help:       object{"text": "What it means, when it is harmless, and what to do first: " + k.Runbook()},
			HelpURI:    k.Runbook(),
			Default:    object{"level": sarifLevels[k.Severity()]},
			Properties: object{"tags": []string{"security"}, "precision": "very-high", "security-severity": scores[k.Severity()]},
		})
	}
	return out
}

// invocation tells whether all could be checked, and if not, why.
func invocation(r *audit.Report) sarifInvocation {
	out := sarifInvocation{OK: r.Verdict != audit.Unknown, Start: r.StartedAt.UTC(), End: r.FinishedAt.UTC(), Notifications: []object{}}
	say := func(level string, parts ...string) {
		out.Notifications = append(out.Notifications, object{"level": level, "message": message(strings.Join(parts, ": "))})
	}
	for i := range r.Chains {
		c, level := &r.Chains[i], "warning" // of a source that failed, and the verdict stands all the same
		if unchecked(c) {
			level, out.OK = "error", false
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
	if !out.OK && len(out.Notifications) == 0 {
		say("error", "not everything could be checked: the verdict is "+r.Verdict.String())
	}
	return out
}

type sarif struct {
	config string
	seen   map[string]int // how often each fingerprint occurred
}

func (s *sarif) results(r *audit.Report, c *audit.Chain, t *audit.Target) []sarifResult {
	var out []sarifResult
	for i, of := range entriesOf(t) {
		e := audit.Entry{Assurance: t.Assurance}
		if of >= 0 {
			e = t.Entries[of]
		}
		f := t.Findings[i]
		res := s.result(c, t, f, e)
		if since := openSince(r, f); since != "" {
			res.Message = message(f.Message + " (" + since + ")")
			res.Properties = sarifProperties{FirstSeen: f.FirstSeen}
		}
		res.Properties.State, res.Properties.LastConfirmed = f.State, f.LastConfirmedAt
		out = append(out, res)
	}
	for _, a := range t.Accepted {
		f := audit.Finding{Kind: a.Kind, Severity: a.Kind.Severity(), List: a.List, ID: a.ID, Message: a.Message}
		e := audit.Entry{Assurance: t.Assurance}
		if i := acceptedEntry(t, a); i >= 0 {
			e, f.FirstSeen = t.Entries[i], t.Entries[i].FirstSeen
		}
		r := s.result(c, t, f, e)
		r.Suppressions = append(r.Suppressions, sarifSuppression{"external", "accepted", escape(accepting(a.Reason, a.Expires))})
		out = append(out, r)
	}
	return out
}

// result is f, which is about e; a zero e is none.
func (s *sarif) result(c *audit.Chain, t *audit.Target, f audit.Finding, e audit.Entry) sarifResult {
	name := []string{Plain(c.Chain), Plain(t.Contract)}
	for _, part := range []string{string(f.List), f.ID} {
		if part != "" {
			name = append(name, Plain(part))
		}
	}
	return sarifResult{
		RuleID: string(f.Kind), RuleIndex: slices.Index(audit.Kinds, f.Kind), Level: sarifLevels[f.Severity], Message: message(f.Message),
		Locations: []sarifLocation{{
			Physical: object{"artifactLocation": object{"uri": s.place(c, t)}, "region": object{"startLine": 1}},
			Logical:  []sarifLogical{{Name: name[len(name)-1], Full: strings.Join(name, "/"), Kind: "resource"}},
		}},
		// Code scanning reads this key only. Without it, it would take all results of a kind for one, as they share a line.
		Fingerprints: map[string]string{"primaryLocationLineHash": s.fingerprint(c.Chain, t.Contract, string(f.Kind), string(f.List), f.ID)},
		Suppressions: []sarifSuppression{},
		Properties:   sarifProperties{Claim: e.Claim, OnChain: e.OnChain, Policy: e.Policy, Assurance: e.Assurance, Block: c.Block, FirstSeen: f.FirstSeen},
	}
}

// fingerprint is the same in every report that has the finding. What shares all parts is numbered.
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

func message(s string) object { return object{"text": escape(s)} }

// escape makes text for SARIF, where braces are placeholders unless doubled, and [text](target) is a link, which no
// foreign name may be.
func escape(s string) string {
	return strings.NewReplacer("{", "{{", "}", "}}", "](", "] (").Replace(Plain(s))
}

// capital makes a sentence of a few words.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// The part of SARIF 2.1.0 that is written; field by field it is chapter 3 of the OASIS standard.
type (
	object   = map[string]any
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        object            `json:"tool"`
		Automation  object            `json:"automationDetails"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		Properties  object            `json:"properties"`
	}
	sarifDriver struct {
		Name     string      `json:"name"`
		Version  string      `json:"version,omitempty"`
		Semantic string      `json:"semanticVersion,omitempty"`
		About    string      `json:"informationUri"`
		Rules    []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID         string `json:"id"`
		Short      object `json:"shortDescription"`
		Full       object `json:"fullDescription"`
		Help       object `json:"help"`
		HelpURI    string `json:"helpUri"`
		Default    object `json:"defaultConfiguration"`
		Properties object `json:"properties"`
	}
	sarifInvocation struct {
		OK            bool      `json:"executionSuccessful"`
		Start         time.Time `json:"startTimeUtc"`
		End           time.Time `json:"endTimeUtc"`
		Notifications []object  `json:"toolExecutionNotifications"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      object             `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions"` // either all results of a run have the list or none has
		Properties   sarifProperties    `json:"properties"`
	}
	sarifLocation struct {
		Physical object         `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifLogical struct {
		Name string `json:"name"`
		Full string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
	sarifProperties struct {
		Claim     audit.ClaimState  `json:"claim,omitempty"`
		OnChain   audit.ChainState  `json:"on_chain,omitempty"`
		Policy    audit.PolicyState `json:"policy,omitempty"`
		Assurance audit.Assurance   `json:"assurance,omitempty"`
		Block     *audit.Block      `json:"block,omitempty"`
		FirstSeen *time.Time        `json:"first_seen,omitempty"`

		State         audit.FindingState `json:"state,omitempty"`
		LastConfirmed *time.Time         `json:"last_confirmed_at,omitempty"`
	}
)
