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
		Short: "Audit recorded answers in which one entry is wrong, without network or configuration",
		Long: "Audit the recorded answers of a tiny chain, proofs included, against claims of an API: once all claims are true, and\n" +
			"else one entry is wrong. It needs no configuration, and no network but 127.0.0.1.\n\n" +
			"Exits 0 when each audit finds just what it has to, 1 when one finds something else, which is printed.",
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
				fmt.Fprintf(&lines, "FAILED  %s: %s\n        it had to be: %s\n", o.Sentence, o.Got, o.Want)
				for _, e := range o.Failed {
					fmt.Fprintf(&lines, "        %s\n", e)
				}
			}
			if err := printf(cmd.OutOrStdout(), "%s", &lines); err != nil {
				return err
			}
			if failed > 0 || len(outcomes) == 0 {
				return &exitError{exitSelftest, fmt.Errorf("%d of %d audits do not find what they have to", failed, len(outcomes))}
			}
			return nil
		},
	}
}
