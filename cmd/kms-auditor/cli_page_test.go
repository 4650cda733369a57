package main

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kms-auditor/kms-auditor/internal/testenv/page"
)

//go:generate go test -run TestTheTablesOfCommands . -write

// TestTheTablesOfCommands has each command, its help, its examples, its flags and its exit codes.
func TestTheTablesOfCommands(t *testing.T) {
	t.Setenv("KMS_AUDITOR_CONFIG", "")
	root := newRoot()
	var b strings.Builder
	b.WriteString("Every command has these flags:\n\n" + flagTable(root.PersistentFlags()))
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c != root {
			describe(t, &b, c)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	page.Check(t, "../../docs/cli.md", "commands", b.String())
}

func describe(t *testing.T, b *strings.Builder, c *cobra.Command) {
	isGroup, exits, text := c.HasAvailableSubCommands(), exitCodes(c), cmp.Or(c.Long, c.Short+".")
	if isGroup && c.Long == "" && !c.HasAvailableLocalFlags() {
		return // a name for its subcommands, and no more
	}
	fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
	if operands := strings.TrimPrefix(c.Use, c.Name()); operands != "" {
		fmt.Fprintf(b, "    %s%s\n\n", c.CommandPath(), operands)
	}
	switch {
	case exits == "" && !isGroup && c.Name() != "version":
		t.Errorf("the help of %s names no exit codes", c.CommandPath())
	case !strings.Contains(text, exits):
		text += "\n\n" + exits
	}
	b.WriteString(text + "\n")
	if c.Example != "" {
		b.WriteString("\n  " + strings.ReplaceAll(c.Example, "\n", "\n  ") + "\n")
	}
	if isGroup && c.HasAvailableLocalFlags() {
		b.WriteString("\nIts subcommands have these flags too:\n")
	}
	if c.HasAvailableLocalFlags() {
		b.WriteString("\n" + flagTable(c.LocalFlags()))
	}
}

// exitCodes is the paragraph on exit codes in a command's help, or in that of the command above it.
func exitCodes(c *cobra.Command) string {
	for ; c != nil; c = c.Parent() {
		for paragraph := range strings.SplitSeq(c.Long, "\n\n") {
			if strings.HasPrefix(paragraph, "Exit") {
				return paragraph
			}
		}
	}
	return ""
}

func flagTable(flags *pflag.FlagSet) string {
	rows := [][]string{{"flag", "default", "meaning"}}
	flags.VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		name := strings.TrimSpace("--" + f.Name + " " + value)
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		byDefault := strings.Trim(f.DefValue, "[]")
		if byDefault != "" {
			byDefault = "`" + byDefault + "`"
		}
		if f.Name != "help" && !f.Hidden {
			rows = append(rows, []string{"`" + name + "`", byDefault, usage})
		}
	})
	return page.Table(rows...)
}
