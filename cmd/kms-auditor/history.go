package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

func newHistory(g *global) *cobra.Command {
	p := targetFlags{global: g}
	var since string
	var output format
	var wide bool
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show allowlist changes: what, when, by whom",
		Long: "Show the changes of the contracts' lists, the oldest first. They come from the events that audits\n" +
			"have read into the state file. No source is asked, and a daemon may be running.\n\n" +
			"Exit codes: 0 shown, even if nothing changed, 2 usage or configuration, 3 no state file, or it cannot be read.",
		Example: "  kms-auditor history -c auditor.yaml --since 30d --list device",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, l := range p.Lists {
				if err := oneOf("--list", l, state.Lists); err != nil {
					return err
				}
			}
			if p.Limit < 0 {
				return errors.New("--limit must not be negative: 0 shows all changes")
			}
			var err error
			if p.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			cfg, err := p.choose(cmd.Context(), true)
			if err != nil {
				return err
			}
			remembered, err := viewState(cfg)
			if err != nil {
				return &exitError{exitUnknown, err}
			}
			return output.show(cmd.OutOrStdout(), remembered.Timeline(p.Filter), wide)
		},
	}
	p.addTo(cmd)
	fs := cmd.Flags()
	fs.StringArrayVar(&p.Lists, "list", state.Lists[:4], "`LIST` of "+strings.Join(state.Lists, ", ")+" (repeatable)")
	fs.StringVar(&since, "since", "", "changes since `TIME`: a date (2026-12-31), an RFC 3339 time, or a duration ago (72h, 30d)")
	fs.IntVar(&p.Limit, "limit", 0, "the newest `N` changes; 0 shows all")
	output.addTo(cmd, "`FORMAT`: text, or json as docs/history.md describes it")
	fs.BoolVar(&wide, "wide", false, "print all columns and whole ids, however narrow the terminal")
	complete(cmd, "list", state.Lists...)
	return cmd
}

// viewState reads the state file without locking it. If the file does not exist, it returns an empty state and fs.ErrNotExist.
func viewState(cfg *config.Config) (*state.State, error) {
	s, err := state.View(cfg.State)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = &state.State{}, fmt.Errorf("%w: run kms-auditor audit first, which writes it", err)
	}
	if s != nil {
		for _, c := range cfg.Chains {
			s.SetChainID(c.Name, c.ChainID)
		}
	}
	return s, err
}

// remembered is like viewState, but returns an empty state on every error.
func remembered(cfg *config.Config) *state.State {
	s, err := viewState(cfg)
	if err != nil {
		return &state.State{}
	}
	return s
}

// parseSince parses a date, a time or a duration ago. Dates are in UTC.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	ago, err := time.ParseDuration(s)
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("invalid --since %q: use a date (2026-12-31), an RFC 3339 time, or a duration (72h, 30d)", s)
	}
	return now.Add(-ago), nil
}
