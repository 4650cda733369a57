package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Values that the shell completes.
var (
	logLevels     = []string{"debug", "info", "warn", "error"}
	logFormats    = []string{"json", "console"}
	formats       = []string{"text", "json"}
	outputKinds   = []string{"text", "json", "sarif", "junit", "prom"}
	blockPolicies = []string{"finalized", "safe", "latest", "latest-5"}
)

// complete offers values for a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	completeBy(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func completeBy(cmd *cobra.Command, flag string, values cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
		panic(err) // no such flag
	}
}

// completeOutput completes the kind of an -o, and leaves its path to the shell.
func completeOutput(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.Contains(typed, "=") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return outputKinds, cobra.ShellCompDirectiveNoFileComp
}

// completed offers the words that find takes from the configuration, for the first argument or for a flag. After an error it
// offers nothing.
func (g *global) completed(find func(*config.Config) []cobra.Completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		cfg, err := g.load(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		for _, value := range find(cfg) {
			if strings.HasPrefix(strings.ToLower(value), strings.ToLower(typed)) {
				out = append(out, value)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// contractsOf lists the contracts that are configured, and those of the last audit.
func contractsOf(cfg *config.Config) (out []cobra.Completion) {
	seen := map[string]bool{}
	add := func(chain, contract string) {
		if !seen[contract] {
			seen[contract] = true
			out = append(out, cobra.CompletionWithDesc(contract, "on "+sanitize.Plain(chain)))
		}
	}
	for _, c := range cfg.Chains {
		for _, contract := range c.Contracts {
			add(c.Name, contract.Address.Hex())
		}
	}
	if last := remembered(cfg).Report(); last != nil {
		for c, t := range render.Targets(last) {
			add(c.Chain, sanitize.Plain(t.Contract))
		}
	}
	return out
}

// idsOf lists the ids of the last audit, and the kinds of findings. A malformed id is any text of the API, so no shell gets it.
func idsOf(cfg *config.Config) (out []cobra.Completion) {
	seen := map[string]bool{}
	if last := remembered(cfg).Report(); last != nil {
		for _, t := range render.Targets(last) {
			for _, e := range t.Entries {
				if _, err := sanitize.ParseID(e.ID); err == nil && !seen[e.ID] {
					seen[e.ID] = true
					out = append(out, cobra.CompletionWithDesc(e.ID, strings.TrimSpace(string(e.List)+" "+sanitize.Plain(e.Name))))
				}
			}
		}
	}
	for _, k := range audit.Kinds {
		out = append(out, cobra.CompletionWithDesc(string(k), k.Meaning()))
	}
	return out
}
