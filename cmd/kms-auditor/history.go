package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
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
		Short: "Show when what was added to the lists, or removed, and by whom",
		Long: "Show the changes of the contracts' lists, the oldest first, from the state file alone: nobody is asked, and the\n" +
			"daemon may be running. They come from the contracts' events, as far as audits have read them; the time and the\n" +
			"actor of a change are there where an audit found them out.\n\n" +
			"Exit codes: 0 shown, even where there is none, 2 usage or configuration, 3 there is no state file, or it cannot be read.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, l := range p.Lists {
				if !slices.Contains(state.Lists, l) {
					return fmt.Errorf("--list %q must be one of %s", l, strings.Join(state.Lists, ", "))
				}
			}
			if p.Limit < 0 {
				return errors.New("--limit must not be negative")
			}
			var err error
			if p.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			cfg, err := p.choose(cmd.Context(), "the configuration has no state: without a state file nothing is remembered")
			if err != nil {
				return err
			}
			remembered, err := viewState(cfg)
			if err != nil {
				return &exitError{exitUnknown, err}
			}
			h := remembered.Timeline(p.Filter)
			h.Wide = wide
			return output.show(cmd.OutOrStdout(), h)
		},
	}
	p.flags(cmd)
	fs := cmd.Flags()
	fs.StringArrayVar(&p.Lists, "list", state.Lists[:4], "changes of this list: "+strings.Join(state.Lists, ", ")+" (repeatable)")
	fs.StringVar(&since, "since", "", "changes since a day (2026-12-31), a time (RFC 3339), or so long ago (72h, 30d)")
	fs.IntVar(&p.Limit, "limit", 0, "the newest `N` changes; 0: all")
	output.addTo(cmd, "text, or json as docs/history.md describes it")
	fs.BoolVar(&wide, "wide", false, "print ids, addresses and hashes whole")
	return cmd
}

// viewState reads the state file. Without one it returns a state that remembers nothing, and an error that says so.
func viewState(cfg *config.Config) (*state.State, error) {
	s, err := state.View(cfg.State)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = &state.State{}, fmt.Errorf("%w: nothing is remembered before the first audit", err)
	}
	if s != nil {
		for _, c := range cfg.Chains {
			s.SetChainID(c.Name, c.ChainID)
		}
	}
	return s, err
}

// remembered is what viewState returns; where it fails, nothing is remembered.
func remembered(cfg *config.Config) *state.State {
	s, err := viewState(cfg)
	if err != nil {
		return &state.State{}
	}
	return s
}

// parseSince reads a day or a time in UTC, or how long ago it was.
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
		return time.Time{}, fmt.Errorf("--since %q is neither a day (2026-12-31), a time (RFC 3339), nor so long ago (72h, 30d)", s)
	}
	return now.Add(-ago), nil
}
