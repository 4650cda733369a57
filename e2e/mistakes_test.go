//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
)

// mistakes are typical mistakes in a configuration.
var mistakes = []row{
	{sentence: "an unknown key is refused", exit: 2, says: "chains[0].blok",
		text: replace(`"block"`, `"blok"`)},
	{sentence: "hex without quotes is refused", exit: 2, says: "hex must be in quotes",
		text: replace(`"latest"`, "0x"+strings.Repeat("ab", 32))},
	{sentence: "an address that is too short is refused", exit: 2, says: "chains[0].contracts[0].address",
		settings: func(s *stage, c *settings) { c.configure(s.kms.Address().Hex()[:40]) }},
	{sentence: "a chain named twice is refused", exit: 2, says: "chain base is listed twice",
		settings: func(_ *stage, c *settings) { c.Chains = append(c.Chains, c.Chains[0]) }},
	{sentence: "a provider named twice is refused", exit: 2, says: "provider p1 is listed twice",
		settings: func(_ *stage, c *settings) { c.addProvider("p1", c.Chains[0].Providers[0].URL) }},
	{sentence: "a chain without providers is refused", exit: 2, says: "must have at least one provider",
		settings: func(_ *stage, c *settings) { c.Chains[0].Providers = []providerSettings{} }},
	{sentence: "nothing to audit is refused", exit: 2, says: "nothing to audit",
		settings: func(_ *stage, c *settings) { c.Chains = []chainSettings{} }},
	{sentence: "a schedule of four fields is refused", exit: 2, says: "schedule",
		settings: func(_ *stage, c *settings) { c.Schedule = "* * * *" }},
	{sentence: "a time zone inside the schedule is refused", exit: 2, says: "schedule",
		settings: func(_ *stage, c *settings) { c.Schedule = "TZ=0 * * * * *" }},
	{sentence: "a schedule that never fires is refused", exit: 2, says: "schedule",
		settings: func(_ *stage, c *settings) { c.Schedule = "0 0 30 2 *" }},
	{sentence: "a negative duration is refused", exit: 2, says: "confirm_delay",
		settings: func(_ *stage, c *settings) { c.ConfirmDelay = "-1s" }},
	{sentence: "a missing secret file is refused", exit: 2, says: "api.api_key_file",
		settings: func(_ *stage, c *settings) { c.API.APIKeyFile = "no-such-file" }},
	{sentence: "a key instead of its file's path is refused", exit: 2, says: "api.api_key_file",
		settings: func(s *stage, c *settings) { c.API.APIKeyFile = s.secrets.key }},
	{sentence: "an invalid provider URL is refused", exit: 2, says: "chains[0].providers[0].url",
		settings: func(_ *stage, c *settings) {
			c.Chains[0].Providers[0].URL = strings.Replace(c.Chains[0].Providers[0].URL, "http", "ftp", 1)
		}},
	{sentence: "an unknown block policy is refused", exit: 2, says: "chains[0].block",
		settings: func(_ *stage, c *settings) { c.Chains[0].Block = "newest" }},
	{sentence: "invalid YAML is refused", exit: 2, says: "not valid YAML",
		text: func(good string) string { return good[:len(good)-1] }},
	{sentence: "an empty file is refused", exit: 2, says: "no settings",
		text: func(string) string { return "" }},
}

func replace(old, new string) func(string) string {
	return func(text string) string { return strings.Replace(text, old, new, 1) }
}

func (c *settings) addProvider(name, url string) {
	c.Chains[0].Providers = append(c.Chains[0].Providers, providerSettings{Name: name, URL: url, Timeout: "2s"})
}

// TestMistakesAtTheCommandLine: each gets one sentence that says what to do, and no report.
func TestMistakesAtTheCommandLine(t *testing.T) {
	for _, tt := range []struct {
		sentence, args, says string
	}{
		{"a flag without its dashes", "audit once", `unknown argument "once" for "kms-auditor audit": did you mean kms-auditor audit --once?`},
		{"a flag for a command", "once", `unknown command "once" for "kms-auditor": did you mean kms-auditor audit --once?`},
		{"a flag of another command", "--once", "unknown flag: --once: did you mean kms-auditor audit --once?"},
		{"words in the wrong order", "check config", `unknown command "check" for "kms-auditor": did you mean kms-auditor config check?`},
		{"a command in capitals", "AUDIT --once", `unknown command "AUDIT" for "kms-auditor": did you mean kms-auditor audit?`},
		{"a mistyped command", "config chekc", `unknown command "chekc" for "kms-auditor config": did you mean kms-auditor config check?`},
		{"a mistyped flag", "audit --once --outptu json", "unknown flag: --outptu: did you mean --output?"},
		{"one dash", "audit -once", "unknown flag -once: did you mean --once?"},
		{"one dash and a value", "audit --once -config x.yml", "unknown flag -config: did you mean --config?"},
		{"no command", "", "a command is missing: anchor, audit, "},
		{"no subcommand", "policy", "policy needs a command: diff, snapshot"},
		{"a file that does not exist", "audit --once --config=x.yml", `reading configuration "x.yml": no such file or directory: kms-auditor config init FILE writes one`},
		{"a chain in capitals", "audit --once --chain Base", `--chain "Base" is not in the built-in configuration, which has base, ethereum: did you mean base?`},
		{"a kind of output in capitals", "audit --once -o JSON", `--output: the kind "JSON" is not one of text, json, sarif, junit, prom: did you mean json?`},
		{"a level that does not exist", "audit --once --log.level warning", `--log.level "warning" is not one of debug, info, warn, error: did you mean warn?`},
		{"no evidence", "verify", "verify needs one argument, not 0: a file that kms-auditor audit --once --evidence FILE wrote"},
		{"evidence that does not exist", "verify gone.json.gz", `reading the evidence "gone.json.gz": no such file or directory: give a file that kms-auditor audit --once --evidence FILE wrote`},
		{"a history without a state file", "history", "the built-in configuration has no state file: name a configuration that has one"},
		{"a date in words", "history --since yesterday", `invalid --since "yesterday": use a date (2026-12-31), an RFC 3339 time, or a duration (72h, 30d)`},
	} {
		exit, stdout, stderr := runAuditorIn(t, offline(), nil, strings.Fields(tt.args)...)
		if exit != 2 || stdout != "" || !strings.HasPrefix(stderr, "kms-auditor: "+tt.says) {
			t.Errorf("%s: exit code %d, %q on stdout, and on stderr\n%s\nwant %s", tt.sentence, exit, stdout, stderr, tt.says)
		}
	}
}
