package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/internal/selftest"
)

func newSelftest() *cobra.Command {
	return &cobra.Command{
		Use:   "selftest",
		Short: "Check this program against recorded audits",
		Long: "Audit recorded answers of a tiny chain, with proofs, and claims of an API: all claims are true in one audit, and one\n" +
			"entry is wrong in each of the others. It needs no configuration, and no network except 127.0.0.1.\n\n" +
			"Exit codes: 0 every audit found exactly what it should, 1 one did not; the output shows what it found.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bundle, err := selftest.Recorded()
			if err != nil {
				return &exitError{exitSelftest, err}
			}
			outcomes, err := bundle.Run(cmd.Context(), build())
			if err != nil {
				return &exitError{exitSelftest, err}
			}
			var lines strings.Builder
			failed := 0
			for _, o := range outcomes {
				if o.OK() {
					fmt.Fprintf(&lines, "ok      %s: %s\n", o.Sentence, o.Got)
					continue
				}
				failed++
				fmt.Fprintf(&lines, "FAILED  %s: %s\n        expected: %s\n", o.Sentence, o.Got, o.Want)
				for _, e := range o.Failed {
					fmt.Fprintf(&lines, "        %s\n", e)
				}
			}
			if err := printf(cmd.OutOrStdout(), "%s", &lines); err != nil {
				return err
			}
			if failed > 0 || len(outcomes) == 0 {
				return &exitError{exitSelftest, fmt.Errorf("%d of %d audits did not find what they should: do not trust this program", failed, len(outcomes))}
			}
			return nil
		},
	}
}
