//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPrintedSnippetsAreValidConfig pastes a snapshot's policy and a report's accept row into the configuration.
func TestPrintedSnippetsAreValidConfig(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *stage) {
		c := s.node.settings(s.api)
		c.API.APIKeyFile = s.keyFile
		base := c.yaml(t)
		exit, snapshot, errs := runAuditorWith(t, s.env, "policy", "snapshot", "-c", writeConfig(t, base))
		if exit != 0 || !strings.Contains(snapshot, `- "0x`+image058+`" # dstack-0.5.8`) || !strings.Contains(snapshot, `owner: "`+owner.Hex()+`"`) {
			t.Fatalf("exit code %d\n%s%s", exit, snapshot, errs)
		}
		governed := base + snapshot
		s.takes(t, governed, 0)

		must(t, allow059(t.Context(), s))
		claim := s.truth()
		says(image059, true)(s, &claim)
		must(t, s.api.put(claim))
		const denied = "policy_denied_chain_allowed"
		report := s.takes(t, governed, 1, "critical "+denied+" os_image", image059)

		rows := acceptRows.FindAllString(report, -1)
		if len(rows) != 1 || !strings.Contains(rows[0], `kind: "`+denied+`"`) {
			t.Fatalf("the report does not print one accept row for its finding: %q\n%s", rows, report)
		}
		exit, _, errs = runAuditorWith(t, s.env, "config", "check", "-c", writeConfig(t, governed+"accept:\n"+rows[0]))
		if exit != 2 || !strings.Contains(errs, "accept[0].reason") {
			t.Errorf("a row without a reason: exit code %d\n%s", exit, errs)
		}
		reasoned := strings.Replace(rows[0], `reason: ""`, `reason: "the policy follows next week"`, 1)
		s.takes(t, governed+"accept:\n"+reasoned, 0, "the policy follows next week")
		s.takes(t, governed+"accept:\n"+expires.ReplaceAllString(reasoned, "expires: "+time.Now().AddDate(0, 0, -2).Format(time.DateOnly)), 1, denied, "accept_expired")
		must(t, refuse059(t.Context(), s))
		must(t, s.api.put(s.truth()))
		s.takes(t, governed+"accept:\n"+reasoned, 0, "accept_unused")
	})
}

var (
	acceptRows = regexp.MustCompile(`(?m)^  - \{chain: .*\}\n`)
	expires    = regexp.MustCompile(`expires: "[^"]*"`)
)

// takes checks a configuration, audits with it, and returns the text report, which must contain says.
func (s *stage) takes(t *testing.T, config string, want int, says ...string) string {
	t.Helper()
	path := writeConfig(t, config)
	if exit, out, errs := runAuditorWith(t, s.env, "config", "check", "-c", path); exit != 0 {
		t.Fatalf("config check exits with %d\n%s%s%s", exit, out, errs, config)
	}
	exit, text, errs := runAuditorWith(t, s.env, "audit", "--once", "-c", path)
	if exit != want || !hasAll(text, says) {
		t.Errorf("exit code %d, want %d and %q\n%s%s", exit, want, says, text, errs)
	}
	return text
}

// yaml is a handwritten configuration of one chain. Appended text continues the chain.
func (c settings) yaml(t *testing.T) string {
	t.Helper()
	chain := c.Chains[0]
	c.Chains = nil
	return block(t, "", c) + "chains:\n  - " + strings.TrimPrefix(block(t, "    ", chain), "    ")
}

// block formats a struct as a YAML mapping, one key per line, without its chains.
func block(t *testing.T, indent string, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	var keys map[string]json.RawMessage
	must(t, json.Unmarshal(raw, &keys))
	var b strings.Builder
	for key, value := range keys {
		if key != "chains" {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, key, value)
		}
	}
	return b.String()
}
