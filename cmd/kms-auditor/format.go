package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/internal/render"
)

// format is the -o of the commands that print their result as text or as JSON.
type format string

// addTo gives a command and its subcommands the flag. They do not run with another format.
func (f *format) addTo(cmd *cobra.Command, usage string) {
	cmd.PersistentFlags().StringVarP((*string)(f), "output", "o", "text", usage)
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		if *f != "text" && *f != "json" {
			return fmt.Errorf("--output %q is neither text nor json", *f)
		}
		return nil
	}
}

// show prints the result of a command.
func (f format) show(w io.Writer, a render.Answer) error {
	return exitWith(exitUnknown, render.Show(w, a, f == "json"))
}
